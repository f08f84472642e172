// Where configuration of registries is looked for: a root directory, an environment, a user. Given as a value, so
// that tests need no real /etc.
//
// Fixed absolute paths ("/etc/containers/…") lie below `root`; paths that come from the environment ($HOME among
// them) are taken as they are, as containers/image does.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { FormatError, isErrno } from "../../shared/error.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat, readAll } from "../../shared/sys/file.ts";

export interface ConfigPlace {
  /** "/" on a real machine. */
  readonly root: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly userId: number;
}

/** No configuration file of registries is larger. */
const MAX_FILE_BYTES = 8 << 20;

/** This machine, this process. */
export function hostConfigPlace(): ConfigPlace {
  return { root: "/", environment: process.env, userId: process.getuid?.() ?? 0 };
}

/** A variable that is set to something; empty ones count as not set. */
export function readVariable(place: ConfigPlace, name: string): string | null {
  return place.environment[name] || null;
}

/** The fixed path `path` ("/etc/…") in this place. */
export function placePath(place: ConfigPlace, path: string): string {
  return join(place.root, path);
}

/** null when nobody says where it is. Services of the system run without $HOME. */
export function homeDirectory(place: ConfigPlace): string | null {
  return readVariable(place, "HOME") ?? (place.userId === 0 ? placePath(place, "/root") : null);
}

/** "~/.config" or what $XDG_CONFIG_HOME says. */
export function userConfigDirectory(place: ConfigPlace): string | null {
  const home = homeDirectory(place);
  return readVariable(place, "XDG_CONFIG_HOME") ?? (home === null ? null : join(home, ".config"));
}

/** The file's bytes, or null when it is not there. FormatError when too large, SyscallError when it cannot be read. */
export function readConfigFile(path: string): Uint8Array | null {
  try {
    // Not readFileSync: a variable may name a pipe, which has no size to check beforehand.
    using fd = openat(null, path, O.RDONLY);
    return readAll(fd, MAX_FILE_BYTES);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

/** As `readConfigFile`, decoded; FormatError when it is not UTF-8. */
export function readConfigText(path: string): string | null {
  const bytes = readConfigFile(path);
  if (bytes === null) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new FormatError("bad-value", `"${path}" is not UTF-8 text`, { path });
  }
}

/** Names of what lies in the directory, sorted; null when it is not there. */
export function listConfigDirectory(path: string): readonly string[] | null {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}
