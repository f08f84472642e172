// Which repository a `cfs` verb works on, and how: cfsctl's global options (composefs-rs.md 7).

import { homedir } from "node:os";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import type { ErofsVersion } from "../../shared/store/metadata.ts";
import { openRepository, type Repository } from "../../shared/store/repository.ts";

/** The places that cfsctl knows by itself. */
const SYSTEM_PATH = "/sysroot/composefs";
const USER_PATH = ".var/lib/composefs";
const DEFAULT_ALGORITHM: VerityAlgorithm = "sha512";

export interface CfsOptions {
  /** False with --no-repo. */
  readonly repo?: string | boolean | undefined;
  readonly user?: true | undefined;
  readonly system?: true | undefined;
  readonly hash?: VerityAlgorithm | undefined;
  readonly erofsVersion?: "0" | "1" | "2" | undefined;
  readonly insecure?: true | undefined;
  readonly requireVerity?: true | undefined;
  /** False with --no-upgrade. */
  readonly upgrade: boolean;
}

export type OptionsOf = () => CfsOptions;

/** As cfsctl: without an option root's is the system's, everybody else's their own. */
export function repositoryPath(options: CfsOptions): string {
  if (typeof options.repo === "string") return options.repo;
  if (options.repo === false) {
    throw new StateError("missing", "This verb needs a repository: leave out --no-repo");
  }
  const isUser = options.user === true || (options.system !== true && process.getuid?.() !== 0);
  return isUser ? join(homedir(), USER_PATH) : SYSTEM_PATH;
}

/** The version that an option asks for, or undefined. */
export function chosenVersion({ erofsVersion }: CfsOptions): ErofsVersion | undefined {
  return erofsVersion === undefined ? undefined : (Number(erofsVersion) as ErofsVersion);
}

/** StateError when there is none, or when it is not what the options say. */
export function openChosenRepository(options: CfsOptions): Repository {
  const path = repositoryPath(options);
  const erofsVersion = chosenVersion(options);
  const repo = openRepository(null, path, {
    upgrade: options.upgrade,
    insecure: options.insecure === true,
    ...(erofsVersion === undefined ? {} : { erofsVersion }),
  });
  try {
    checkRepository(repo, options);
    return repo;
  } catch (error) {
    repo[Symbol.dispose]();
    throw error;
  }
}

function checkRepository({ path, algorithm, secure }: Repository, options: CfsOptions): void {
  if (options.hash !== undefined && options.hash !== algorithm) {
    const message = `The repository "${path}" uses ${algorithm}, not ${options.hash}; leave out --hash`;
    throw new StateError("conflict", message);
  }
  if (options.requireVerity === true && !secure) {
    throw new StateError(
      "conflict",
      `The repository "${path}" does without fs-verity, which --require-verity forbids`,
    );
  }
}

/** For verbs that only compute: the repository's algorithm when there is one, else --hash, else SHA-512. */
export function chosenAlgorithm(options: CfsOptions): VerityAlgorithm {
  const fallback = options.hash ?? DEFAULT_ALGORITHM;
  if (options.repo === false) return fallback;
  try {
    using repo = openRepository(null, repositoryPath(options));
    return repo.algorithm;
  } catch (error) {
    if (error instanceof StateError && error.code === "missing") return fallback;
    throw error;
  }
}
