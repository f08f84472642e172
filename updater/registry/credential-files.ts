// Which files with credentials are read: bootc's, podman's and Docker's. What is in them is auth-file.ts.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { type AuthFile, parseAuthFile } from "./auth-file.ts";
import {
  type ConfigPlace,
  homeDirectory,
  placePath,
  readConfigFile,
  readVariable,
  userConfigDirectory,
} from "./config-place.ts";

/** A file that is there. Read when it is asked for: a damaged one is no matter as long as another answers. */
export interface AuthFileSource {
  readonly path: string;
  /** Read once; null when it has gone since. FormatError when malformed. */
  readonly read: () => AuthFile | null;
}

/**
 * The files of this place, in the order in which they are asked:
 *
 *   $REGISTRY_AUTH_FILE alone, when it is set
 *   bootc's: the first of /run/ostree, /etc/ostree, /usr/lib/ostree that has an auth.json (users have their own places)
 *   podman's: $XDG_RUNTIME_DIR/containers, /run/containers/UID, ~/.config/containers
 *   Docker's: ~/.docker/config.json, ~/.dockercfg
 *
 * StateError when $REGISTRY_AUTH_FILE is not there.
 */
export function listAuthFiles(place: ConfigPlace): readonly AuthFileSource[] {
  const given = readVariable(place, "REGISTRY_AUTH_FILE");
  if (given !== null) {
    if (existsSync(given)) return [openAuthFile(given, false)];
    throw new StateError(
      "missing",
      `"${given}", which $REGISTRY_AUTH_FILE names, is not there; create it or unset the variable`,
      { path: given },
    );
  }
  const ours = bootcPaths(place).find((path) => existsSync(path));
  const others = podmanPaths(place).filter((path) => existsSync(path));
  const home = homeDirectory(place);
  const legacy = home === null ? null : join(home, ".dockercfg");
  return [
    ...(ours === undefined ? [] : [openAuthFile(ours, false)]),
    ...others.map((path) => openAuthFile(path, false)),
    ...(legacy !== null && existsSync(legacy) ? [openAuthFile(legacy, true)] : []),
  ];
}

function openAuthFile(path: string, isLegacy: boolean): AuthFileSource {
  let file: AuthFile | null | undefined;
  const read = () => {
    // Kept, because a variable may name a pipe.
    if (file === undefined) {
      const bytes = readConfigFile(path);
      file = bytes === null ? null : parseAuthFile(bytes, path, { isLegacy });
    }
    return file;
  };
  return { path, read };
}

function bootcPaths(place: ConfigPlace): readonly string[] {
  if (place.userId === 0) {
    return ["/run/ostree", "/etc/ostree", "/usr/lib/ostree"].map((directory) =>
      placePath(place, `${directory}/auth.json`),
    );
  }
  return [readVariable(place, "XDG_RUNTIME_DIR"), userConfigDirectory(place)]
    .filter((directory) => directory !== null)
    .map((directory) => join(directory, "ostree/auth.json"));
}

function podmanPaths(place: ConfigPlace): readonly string[] {
  const runtime = readVariable(place, "XDG_RUNTIME_DIR");
  const user = userConfigDirectory(place);
  const home = homeDirectory(place);
  const docker =
    readVariable(place, "DOCKER_CONFIG") ?? (home === null ? null : join(home, ".docker"));
  const paths = [
    runtime === null ? null : join(runtime, "containers/auth.json"),
    // A root session has $XDG_RUNTIME_DIR, a service of the system has not: both should find a "podman login".
    placePath(place, `/run/containers/${place.userId}/auth.json`),
    user === null ? null : join(user, "containers/auth.json"),
    docker === null ? null : join(docker, "config.json"),
  ].filter((path) => path !== null);
  return [...new Set(paths)];
}
