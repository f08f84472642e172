// The deployments of an ostree system, read as libostree reads them (ostree.md 3.1, 3.4, 6.1): boot entries are
// the truth, their `ostree=` leads over a boot link to the deployment, beside which its origin lies.
// What is wrong with one entry is its problem, not a reason to see nothing.

import {
  describeError,
  FormatError,
  isErrno,
  StateError,
  SyscallError,
} from "../../shared/error.ts";
import { type BlsEntry, parseEntry } from "../../shared/format/bls/entry.ts";
import { compareVersions } from "../../shared/format/bls/version.ts";
import {
  type BootPath,
  type OstreeEntryName,
  parseBootLink,
  parseBootPath,
  parseLoaderLink,
  parseOstreeEntryName,
} from "../../shared/format/ostree/deployment.ts";
import { type OstreeOrigin, parseOstreeOrigin } from "../../shared/format/ostree/origin.ts";
import { parseStagedDeployment, type StagedDeployment } from "../../shared/format/ostree/record.ts";
import { bytesToByteString, fromByteString } from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openatIfExists, readAll } from "../../shared/sys/file.ts";
import { readlinkat } from "../../shared/sys/link.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";

export interface OstreeDeployment {
  /** Name of its boot entry's file. */
  readonly entryFile: string;
  readonly entryName: OstreeEntryName;
  readonly entry: BlsEntry;
  readonly boot: BootPath;
  readonly stateroot: string;
  readonly commit: string;
  readonly serial: number;
  /** Below the system's root. */
  readonly path: string;
  /** Null when there is no such file. */
  readonly origin: OstreeOrigin | null;
}

export interface OstreeSysroot {
  /** In the order of the boot menu: the default first. */
  readonly deployments: readonly OstreeDeployment[];
  readonly staged: StagedDeployment | null;
  /** What libostree would fail on, one line each. */
  readonly problems: readonly string[];
}

const FILE_LIMIT_BYTES = 1 << 20;

/** StateError("missing") when `path` holds no ostree system; `run` is where /run is. */
export function observeOstreeSysroot(path: string, run: string): OstreeSysroot {
  using root = openRoot(path);
  if (fstatatIfExists(root, "ostree/repo") === null) {
    throw new StateError("missing", `There is no ostree system at "${path}": no "ostree/repo"`);
  }
  const staged = readStaged(run);
  const loader = readLink(root, "boot/loader");
  const version = loader === null ? 0 : parseLoaderLink(loader);
  if (version === null) {
    const problem = `"boot/loader" leads to "${loader}", expected "loader.0" or "loader.1"`;
    return { deployments: [], staged, problems: [problem] };
  }
  const problems: string[] = [];
  const deployments = listEntryFiles(root, `boot/loader.${version}/entries`).flatMap((file) => {
    try {
      return [readDeployment(root, `boot/loader.${version}/entries/${file}`, file)];
    } catch (error) {
      const isDamage = error instanceof FormatError || error instanceof SyscallError;
      if (!isDamage) throw error;
      problems.push(`Boot entry "${file}": ${describeError(error)}`);
      return [];
    }
  });
  return { deployments: deployments.sort(compareDeployments), staged, problems };
}

function openRoot(path: string): Fd {
  try {
    return openat(null, path, O.RDONLY | O.DIRECTORY);
  } catch (cause) {
    throw new StateError("missing", `Cannot open the system at "${path}"`, {}, { cause });
  }
}

/** By version, the highest first; entries without one last. */
function compareDeployments(a: OstreeDeployment, b: OstreeDeployment): number {
  const [left, right] = [a.entry.version, b.entry.version];
  if (left === null || right === null) return Number(left === null) - Number(right === null);
  return compareVersions(right, left);
}

function listEntryFiles(root: Fd, path: string): string[] {
  if (fstatatIfExists(root, path) === null) return [];
  using directory = openDirectory(root, path);
  return readDirectory(directory)
    .filter(({ type }) => type === "file" || type === "unknown")
    .map(({ name }) => fromByteString(bytesToByteString(name)))
    .filter((name) => parseOstreeEntryName(name) !== null)
    .sort();
}

function readDeployment(root: Fd, path: string, entryFile: string): OstreeDeployment {
  const entry = parseEntry(readText(root, path) ?? "", entryFile);
  const argument = entry.options.split(/\s+/).find((word) => word.startsWith("ostree="));
  if (argument === undefined) throw malformed('has no "ostree=" in its options');
  const boot = parseBootPath(argument.slice("ostree=".length));
  if (boot === null) throw malformed(`has "${argument}", which libostree does not take`);
  const linkPath = argument.slice("ostree=/".length);
  const target = readLink(root, linkPath);
  if (target === null) throw malformed(`leads to "${linkPath}", which does not exist`);
  const link = parseBootLink(target);
  if (link === null) throw malformed(`leads over "${linkPath}" to "${target}"`);
  const deploy = `ostree/deploy/${link.stateroot}/deploy/${link.commit}.${link.serial}`;
  if (fstatatIfExists(root, deploy) === null)
    throw malformed(`leads to "${deploy}", which is gone`);
  const originPath = `${deploy}.origin`;
  const origin = readText(root, originPath);
  return {
    entryFile,
    entryName: parseOstreeEntryName(entryFile)!,
    entry,
    boot,
    ...link,
    path: deploy,
    origin: origin === null ? null : parseOstreeOrigin(origin, originPath),
  };
}

function malformed(problem: string): FormatError {
  return new FormatError("bad-value", `It ${problem}`, { format: "bls" });
}

function readStaged(run: string): StagedDeployment | null {
  using fd = openatIfExists(null, `${run}/ostree/staged-deployment`, O.RDONLY | O.NONBLOCK);
  return fd === null ? null : parseStagedDeployment(readAll(fd, FILE_LIMIT_BYTES));
}

function readText(root: Fd, path: string): string | null {
  using fd = openatIfExists(root, path, O.RDONLY | O.NONBLOCK);
  return fd === null ? null : Buffer.from(readAll(fd, FILE_LIMIT_BYTES)).toString("utf8");
}

/** Null when there is nothing; what is no link is a problem of its own. */
function readLink(root: Fd, path: string): string | null {
  try {
    return Buffer.from(readlinkat(root, path)).toString("utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    if (isErrno(error, "EINVAL")) {
      throw new FormatError("bad-value", `"${path}" is no symlink`, { format: "ostree" });
    }
    throw error;
  }
}
