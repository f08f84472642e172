// What is known about a partial download: which bytes are there, as records that find lost ones. Pure.
//
// A partial file is the blob at its place, with holes, and behind it (from `recordsAt`) records of 32
// bytes. Nothing is synced: after a power cut any block may be lost. So a record vouches for itself, and for
// its bytes, by hashes; whatever does not agree is fetched again. The hashes find accidents, not forgeries:
// only the digest of the whole blob makes it count.

import { struct, u64, u64n } from "../../shared/bytes/layout.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { ByteRange } from "./resolved-image.ts";

/** Records begin at a multiple of this: a torn block harms either them or the blob. */
const BLOCK_BYTES = 4096;
/** Shorter pieces are recorded only at the end of the blob, which bounds the number of records. */
export const MIN_PIECE_BYTES = 64 * 1024;

/** Private to this program: a file of another version has no valid records. */
export const DownloadRecord = struct("download record", 32, {
  startByte: u64n,
  sizeBytes: u64n,
  /** xxHash3 of the bytes. */
  contentHash: u64,
  /** xxHash3 of the 24 bytes before, of digest and size of the blob. */
  recordHash: u64,
});

/** One stretch of bytes that was written. */
export interface DownloadedPiece extends ByteRange {
  readonly contentHash: bigint;
}

export function recordsAt({ size }: Descriptor): number {
  return Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
}

/** More than this is not read: nobody writes so many. */
export function recordsLimitBytes({ size }: Descriptor): number {
  // Every attempt may leave one more at a piece's seam; the factor is generous.
  return DownloadRecord.sizeBytes * (2 * Math.ceil(size / MIN_PIECE_BYTES) + 1024);
}

export function hashPiece(bytes: Uint8Array): bigint {
  return Bun.hash.xxHash3(bytes);
}

export function encodePiece(layer: Descriptor, piece: DownloadedPiece): Uint8Array {
  const { startByte, endByte, contentHash } = piece;
  const fields = { startByte, sizeBytes: endByte - startByte, contentHash };
  const recordHash = hashRecord(layer, DownloadRecord.encode(fields));
  return DownloadRecord.encode({ ...fields, recordHash });
}

/** The valid records of this blob, in the order they were written; others are passed over. */
export function decodePieces(layer: Descriptor, bytes: Uint8Array): DownloadedPiece[] {
  const pieces: DownloadedPiece[] = [];
  const step = DownloadRecord.sizeBytes;
  for (let offset = 0; offset + step <= bytes.length; offset += step) {
    const record = bytes.subarray(offset, offset + step);
    const recordHash = hashRecord(layer, record);
    if (new DataView(record.buffer, record.byteOffset).getBigUint64(24, true) !== recordHash)
      continue;
    const { startByte, sizeBytes, contentHash } = DownloadRecord.decode(record);
    const endByte = startByte + sizeBytes;
    if (sizeBytes > 0 && endByte <= layer.size) pieces.push({ startByte, endByte, contentHash });
  }
  return pieces;
}

function hashRecord({ digest, size }: Descriptor, record: Uint8Array): bigint {
  const named = Buffer.from(`${digest} ${size} `);
  return Bun.hash.xxHash3(Buffer.concat([named, record.subarray(0, 24)]));
}

/** Sorted, without overlap, with gaps between them: what every list of ranges below is. */
export type Ranges = readonly ByteRange[];

export function addRange(ranges: Ranges, added: ByteRange): Ranges {
  if (added.endByte <= added.startByte) return ranges;
  const before = ranges.filter((each) => each.endByte < added.startByte);
  const after = ranges.filter((each) => each.startByte > added.endByte);
  const touching = ranges.slice(before.length, ranges.length - after.length);
  const startByte = Math.min(added.startByte, ...touching.map((each) => each.startByte));
  const endByte = Math.max(added.endByte, ...touching.map((each) => each.endByte));
  return [...before, { startByte, endByte }, ...after];
}

export function removeRange(ranges: Ranges, removed: ByteRange): Ranges {
  if (removed.endByte <= removed.startByte) return ranges;
  return ranges
    .flatMap(({ startByte, endByte }) => [
      { startByte, endByte: Math.min(endByte, removed.startByte) },
      { startByte: Math.max(startByte, removed.endByte), endByte },
    ])
    .filter(({ startByte, endByte }) => startByte < endByte);
}

export function countBytes(ranges: Ranges): number {
  return ranges.reduce((sum, { startByte, endByte }) => sum + endByte - startByte, 0);
}

/** End of what is there without a gap from `position` on; `position` when nothing is. */
export function reachFrom(ranges: Ranges, position: number): number {
  const range = ranges.find((each) => each.startByte <= position && position < each.endByte);
  return range?.endByte ?? position;
}

/** The first stretch of [0, sizeBytes) that is not in `ranges`, at most `limitBytes` of it, or null. */
export function firstGap(ranges: Ranges, sizeBytes: number, limitBytes: number): ByteRange | null {
  const startByte = reachFrom(ranges, 0);
  if (startByte >= sizeBytes) return null;
  const next = ranges.find((each) => each.startByte > startByte)?.startByte ?? sizeBytes;
  return { startByte, endByte: Math.min(next, startByte + limitBytes) };
}
