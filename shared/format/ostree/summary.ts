// A repository's `summary` `(a(s(taya{sv}))a{sv})`: the refs it offers, sorted, with the size and time of each commit
// (ostree.md 4.4). The size is the one number of ostree that is not big-endian.

import { decodeGVariant } from "../gvariant/decode.ts";
import { type Dictionary, lookup } from "../gvariant/dictionary.ts";
import { swapToNumber } from "./byte-order.ts";
import { checksumFromBytes } from "./object.ts";

export interface SummaryRef {
  readonly ref: string;
  readonly checksum: string;
  /** Of the commit object. */
  readonly commitSizeBytes: number;
  /** Since the epoch; null when the summary does not say. */
  readonly timestampSec: number | null;
  readonly metadata: Dictionary;
}
export interface Summary {
  readonly refs: readonly SummaryRef[];
  readonly metadata: Dictionary;
}

export function parseSummary(bytes: Uint8Array): Summary {
  const [refs, metadata] = decodeGVariant("(a(s(taya{sv}))a{sv})", bytes) as unknown as readonly [
    readonly (readonly [string, readonly [bigint, Uint8Array, Dictionary]])[],
    Dictionary,
  ];
  return { refs: refs.map(([ref, fields]) => parseRef(ref, ...fields)), metadata };
}

function parseRef(
  ref: string,
  size: bigint,
  checksum: Uint8Array,
  metadata: Dictionary,
): SummaryRef {
  const timestamp = lookup(metadata, "ostree.commit.timestamp", "t") as bigint | null;
  return {
    ref,
    checksum: checksumFromBytes(checksum, `The checksum of "${ref}"`),
    commitSizeBytes: Number(size),
    timestampSec: timestamp === null ? null : swapToNumber(timestamp, "The time of a commit"),
    metadata,
  };
}
