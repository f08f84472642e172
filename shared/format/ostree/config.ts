// A repository's `config` (ostree.md 4.1): what kind of repository it is. Settings that only concern
// fetching, free space or garbage are left alone.

import { FormatError } from "../../error.ts";
import { parseIni } from "../keyfile/ini.ts";

export type RepositoryMode =
  | "bare"
  | "bare-user"
  | "bare-user-only"
  | "bare-split-xattrs"
  | "archive";

export interface RepositoryConfig {
  readonly mode: RepositoryMode;
  /** A repository that has the objects this one lacks. */
  readonly parent: string | null;
  readonly collectionId: string | null;
  /** Whether every file must have fs-verity. */
  readonly requiresVerity: boolean;
}

const MODES = new Map<string, RepositoryMode>([
  ["bare", "bare"],
  ["bare-user", "bare-user"],
  ["bare-user-only", "bare-user-only"],
  ["bare-split-xattrs", "bare-split-xattrs"],
  ["archive", "archive"],
  ["archive-z2", "archive"],
]);
const YES = new Set(["yes", "true", "1"]);
const VERSION = "1";

/** `source` names the file in messages. */
export function parseRepositoryConfig(text: string, source: string): RepositoryConfig {
  const settings = parseIni(text, source);
  const core = settings.get("core");
  const version = core?.get("repo_version");
  if (version !== VERSION) {
    const found = version === undefined ? "is missing" : `is "${version}"`;
    throw malformed(source, `[core] repo_version ${found}, expected "${VERSION}"`);
  }
  const name = core?.get("mode") ?? "bare";
  const mode = MODES.get(name);
  if (mode === undefined) throw malformed(source, `[core] mode "${name}" is unknown`);
  return {
    mode,
    parent: core?.get("parent") ?? null,
    collectionId: core?.get("collection-id") ?? null,
    requiresVerity:
      YES.has(settings.get("ex-integrity")?.get("fsverity") ?? "") ||
      YES.has(settings.get("ex-fsverity")?.get("required") ?? ""),
  };
}

/** The config of a new repository, as `ostree init` writes it. */
export function formatRepositoryConfig(mode: RepositoryMode): string {
  return `[core]\nrepo_version=${VERSION}\nmode=${mode === "archive" ? "archive-z2" : mode}\n`;
}

function malformed(source: string, problem: string): FormatError {
  return new FormatError("bad-value", `Repository settings "${source}": ${problem}`, {
    format: "ostree-config",
  });
}
