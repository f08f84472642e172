// A commit object `(a{sv}aya(say)sstayay)` (ostree.md 4.2). Its bytes are signed and named by their checksum, so a foreign
// commit is never written again from its parts: keep the bytes.

import { FormatError } from "../../error.ts";
import { decodeGVariant } from "../gvariant/decode.ts";
import type { Dictionary } from "../gvariant/dictionary.ts";
import { encodeGVariant } from "../gvariant/encode.ts";
import type { GVariant } from "../gvariant/value.ts";
import { swap64, swapToNumber } from "./byte-order.ts";
import { checksumFromBytes, checksumToBytes } from "./object.ts";

export interface Commit {
  readonly metadata: Dictionary;
  readonly parent: string | null;
  /** Refs of other commits; ostree writes none. */
  readonly related: readonly (readonly [name: string, checksum: string])[];
  readonly subject: string;
  readonly body: string;
  /** Since the epoch. */
  readonly timestampSec: number;
  readonly tree: string;
  readonly meta: string;
}

/** Keys of commit metadata (ostree.md 4.2). */
export const COMMIT_KEY = {
  version: "version",
  refBinding: "ostree.ref-binding",
  composefsDigest: "ostree.composefs.digest.v0",
} as const;

const COMMIT_TYPE = "(a{sv}aya(say)sstayay)";
/** ostree's own limit for a metadata object. */
export const MAX_METADATA_BYTES = 128 << 20;

export function parseCommit(bytes: Uint8Array): Commit {
  const [metadata, parent, related, subject, body, timestamp, tree, meta] = decodeGVariant(
    COMMIT_TYPE,
    bytes,
  ) as unknown as readonly [
    Dictionary,
    Uint8Array,
    readonly (readonly [string, Uint8Array])[],
    string,
    string,
    bigint,
    Uint8Array,
    Uint8Array,
  ];
  return {
    metadata,
    parent: parent.length === 0 ? null : checksumFromBytes(parent, "The parent of a commit"),
    related: related.map(([name, each]) => [name, checksumFromBytes(each, "A related commit")]),
    subject,
    body,
    timestampSec: swapToNumber(timestamp, "The time of a commit"),
    tree: checksumFromBytes(tree, "The root directory of a commit"),
    meta: checksumFromBytes(meta, "The root directory's metadata of a commit"),
  };
}

export function encodeCommit(commit: Commit): Uint8Array {
  if (!Number.isSafeInteger(commit.timestampSec) || commit.timestampSec < 0) {
    throw new FormatError("bad-value", `A commit cannot have the time ${commit.timestampSec}`, {
      format: "commit",
      field: "timestamp",
    });
  }
  return encodeGVariant(COMMIT_TYPE, [
    commit.metadata as unknown as GVariant,
    commit.parent === null ? new Uint8Array(0) : checksumToBytes(commit.parent),
    commit.related.map(([name, checksum]) => [name, checksumToBytes(checksum)]),
    commit.subject,
    commit.body,
    swap64(BigInt(commit.timestampSec)),
    checksumToBytes(commit.tree),
    checksumToBytes(commit.meta),
  ]);
}

/** What `ostree show` calls ContentChecksum: equal for commits of the same tree. */
export function computeContentChecksum({ tree, meta }: Commit): string {
  return new Bun.SHA256().update(checksumToBytes(tree)).update(checksumToBytes(meta)).digest("hex");
}
