// xattrs of an on-disk inode as (name, value) pairs, its own first, then the shared ones.

import type { ByteString } from "../tree/node.ts";
import { claim, type ErofsImage, imageError, type RawInode } from "./image.ts";
import { XattrEntry, XattrHeader } from "./layout.ts";
import { XATTR_PREFIXES } from "./xattr-name.ts";

export interface XattrPair {
  readonly name: ByteString;
  readonly value: ByteString;
  /** The image, and where the value is in it. */
  readonly image: Uint8Array;
  readonly at: number;
}

/** A view: a value that many files share exists once, however large it is. */
export function valueBytes({ image, at, value }: XattrPair): Uint8Array {
  return image.subarray(at, at + value.length);
}

/** Shared pairs by offset: read and claimed once, one object for all inodes. */
export type SharedXattrs = Map<number, XattrPair>;

export function readXattrPairs(
  image: ErofsImage,
  inode: RawInode,
  known: SharedXattrs,
): XattrPair[] {
  if (inode.xattrBytes === 0) return [];
  const { bytes, view } = image;
  const end = inode.xattrAt + inode.xattrBytes;
  const sharedCount = bytes[inode.xattrAt + XattrHeader.offsets.sharedCount]!;
  const sharedAt = inode.xattrAt + XattrHeader.sizeBytes;
  let at = sharedAt + 4 * sharedCount;
  if (at > end) throw imageError("truncated", "Shared xattr list is cut off", inode.xattrAt);
  const pairs: XattrPair[] = [];
  while (at < end) {
    const entryEnd = entryEndAt(image, at, end);
    pairs.push(decodeEntry(image, at));
    at = entryEnd;
  }
  for (let i = 0; i < sharedCount; i++) {
    const offset = image.xattrBase + 4 * view.getUint32(sharedAt + 4 * i, true);
    pairs.push(readShared(image, offset, known));
  }
  return pairs;
}

function readShared(image: ErofsImage, offset: number, known: SharedXattrs): XattrPair {
  const cached = known.get(offset);
  if (cached !== undefined) return cached;
  const end = entryEndAt(image, offset, image.bytes.length);
  claim(image, offset, end - offset);
  const pair = decodeEntry(image, offset);
  known.set(offset, pair);
  return pair;
}

function entryEndAt(image: ErofsImage, at: number, limit: number): number {
  if (at + XattrEntry.sizeBytes > limit) throw imageError("truncated", "Xattr is cut off", at);
  const nameLength = image.bytes[at + XattrEntry.offsets.nameLength]!;
  const valueBytes = image.view.getUint16(at + XattrEntry.offsets.valueSize, true);
  const end = at + ((XattrEntry.sizeBytes + nameLength + valueBytes + 3) & ~3);
  if (end > limit) throw imageError("truncated", "Xattr is cut off", at);
  return end;
}

function decodeEntry(image: ErofsImage, at: number): XattrPair {
  const { bytes, text, view } = image;
  const nameLength = bytes[at + XattrEntry.offsets.nameLength]!;
  const prefix = XATTR_PREFIXES[bytes[at + XattrEntry.offsets.nameIndex]!];
  if (prefix === undefined) throw imageError("unsupported", "Unknown xattr prefix", at);
  const nameAt = at + XattrEntry.sizeBytes;
  const valueAt = nameAt + nameLength;
  const name = prefix + text.toString("latin1", nameAt, valueAt);
  if (name.length === 0 || name.length > 255 || name.includes("\0")) {
    throw imageError("bad-value", "Xattr name is not 1 to 255 bytes without NUL", at);
  }
  const valueEnd = valueAt + view.getUint16(at + XattrEntry.offsets.valueSize, true);
  const value = text.toString("latin1", valueAt, valueEnd);
  return { name, value, image: bytes, at: valueAt };
}
