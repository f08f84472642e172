// Checks an ostree repository and changes nothing: every object against its checksum and its form, everything that
// refs and commits lead to, and on request signatures (what `ostree fsck` checks, ostree.md 4.6).
//
// Each object is read once. Commits that are marked as partial, from a download that was cut off, may lack objects;
// they are counted, and are a finding only when a check marked them.

import { toHex } from "../../shared/bytes/hex.ts";
import { isErrno } from "../../shared/error.ts";
import { type Dictionary, lookup } from "../../shared/format/gvariant/dictionary.ts";
import { COMMIT_KEY, type Commit } from "../../shared/format/ostree/commit.ts";
import { loosePath } from "../../shared/format/ostree/object.ts";
import { findSignatures, verifySignatures } from "../../shared/format/ostree/signature.ts";
import { makeOstreeImage } from "../../shared/ostree/image.ts";
import { hasLoose, readCommit, readDetached, readMetadata } from "../../shared/ostree/objects.ts";
import { listRefs } from "../../shared/ostree/refs.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat, readAll } from "../../shared/sys/file.ts";
import {
  ADVICE,
  attempt,
  type Check,
  checkLoose,
  checkTree,
  listLoose,
  type OstreeFindingKind,
  report,
} from "./object-check.ts";

export interface OstreeCheckOptions {
  /** Only these and what they lead to; null for everything. */
  readonly commits: readonly string[] | null;
  /** Ed25519 public keys, of which one must have signed each commit; null to leave signatures alone. */
  readonly keys: readonly Uint8Array[] | null;
  /** Whether to make the image of each whole commit that names one, and compare digests. */
  readonly images: boolean;
}

export interface OstreeCheckReport {
  readonly checked: Readonly<Record<"refs" | "commits" | "partial commits" | "objects", number>>;
  readonly findings: readonly Finding<OstreeFindingKind>[];
}

export async function checkOstreeRepository(
  repo: OstreeRepository,
  options: OstreeCheckOptions,
): Promise<OstreeCheckReport> {
  const check: Check = { repo, findings: [], seen: new Set(), walked: new Set() };
  const loose = options.commits === null ? listLoose(repo) : [];
  const refs = options.commits === null ? checkRefs(check) : 0;
  const commits =
    options.commits ??
    loose.filter(({ type }) => type === "commit").map(({ checksum }) => checksum);
  // Whole ones first: what they lack is a finding, what only partial ones lack is none.
  const states = commits.map((checksum) => ({ checksum, state: partialState(repo, checksum) }));
  const whole = states.filter(({ state }) => state === null);
  const partial = states.filter(({ state }) => state !== null);
  for (const { checksum } of whole) await checkCommit(check, options, checksum, false);
  for (const { checksum, state } of partial) {
    if (state === "failed") reportPartial(check, checksum);
    await checkCommit(check, options, checksum, true);
  }
  for (const { checksum, type } of loose) await checkLoose(check, checksum, type);
  return {
    checked: {
      refs,
      commits: whole.length,
      "partial commits": partial.length,
      objects: check.seen.size,
    },
    findings: check.findings,
  };
}

function checkRefs(check: Check): number {
  const refs = listRefs(check.repo);
  for (const { name, path, checksum, alias } of refs) {
    if (checksum === null) {
      const problem =
        alias === null ? "it holds no checksum" : `it leads to "${alias}", which is no ref`;
      report(check, "ref-malformed", path, `Ref "${name}": ${problem}`, ADVICE.ref);
    } else if (!hasLoose(check.repo, checksum, "commit")) {
      const problem = `Ref "${name}": its commit "${checksum}" is missing`;
      report(check, "ref-dangling", path, problem, ADVICE.missing);
    }
  }
  return refs.length;
}

/** A commit that was not fetched whole, or that a check has found to be damaged. */
function partialState(repo: OstreeRepository, checksum: string): "partial" | "failed" | null {
  try {
    using fd = openat(repo.dir, `state/${checksum}.commitpartial`, O.RDONLY | O.NONBLOCK);
    return readAll(fd, 1024).length === 0 ? "partial" : "failed";
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
}

function reportPartial(check: Check, checksum: string): void {
  const problem = `Commit "${checksum}" was found to be damaged by an earlier check`;
  report(check, "commit-partial", `state/${checksum}.commitpartial`, problem, ADVICE.missing);
}

async function checkCommit(
  check: Check,
  options: OstreeCheckOptions,
  checksum: string,
  isPartial: boolean,
): Promise<void> {
  const commit = await attempt(check, checksum, "commit", isPartial, () =>
    readCommit(check.repo, checksum),
  );
  if (commit === null) return;
  if (options.keys !== null) await checkSignature(check, checksum, options.keys);
  const before = check.findings.length;
  await checkTree(check, commit, isPartial);
  // An image of damaged files has another digest, which says nothing new.
  const isWhole = !isPartial && check.findings.length === before;
  if (options.images && isWhole) await checkImage(check, checksum, commit);
}

async function checkImage(check: Check, checksum: string, commit: Commit): Promise<void> {
  const expected = lookup(commit.metadata, COMMIT_KEY.composefsDigest, "ay") as Uint8Array | null;
  if (expected === null) return;
  const image = await attempt(check, checksum, "commit", false, () =>
    makeOstreeImage(check.repo, commit, { verity: true }),
  );
  if (image === null || image.digest === toHex(expected)) return;
  const path = `objects/${loosePath(checksum, "commit")}`;
  const problem = `Commit "${checksum}" names the image "${toHex(expected)}", but its files make "${image.digest}"`;
  report(check, "image-mismatch", path, problem, ADVICE.image);
}

async function checkSignature(
  check: Check,
  checksum: string,
  keys: readonly Uint8Array[],
): Promise<void> {
  const { repo } = check;
  const read = () => readDetached(repo, checksum);
  const detached = hasLoose(repo, checksum, "commitmeta")
    ? await attempt<Dictionary | null>(check, checksum, "commitmeta", false, read)
    : null;
  const signatures = detached === null ? null : findSignatures(detached);
  const path = `objects/${loosePath(checksum, "commit")}`;
  if (signatures === null || signatures.length === 0) {
    const problem = `Commit "${checksum}" has no Ed25519 signature`;
    report(check, "commit-unsigned", path, problem, ADVICE.signature);
  } else if (!verifySignatures(readMetadata(repo, checksum, "commit"), signatures, keys)) {
    const problem = `Commit "${checksum}" is signed by none of the keys, or was changed`;
    report(check, "commit-untrusted", path, problem, ADVICE.signature);
  }
}
