// xattrs of an on-disk inode as (name, value) pairs, its own first, then the shared ones.

import type { ByteString } from "../tree/node.ts";
import { claim, type ErofsImage, imageError, type RawInode } from "./image.ts";
import { XattrEntry, XattrHeader } from "./layout.ts";
import { XATTR_PREFIXES } from "./xattr-name.ts";

export interface XattrPair {
  readonly name: ByteString;
  readonly image: ErofsImage;
  /** Where the value is in the image. */
  readonly at: number;
  readonly sizeBytes: number;
}

/** A view: a value that many files share exists once, however large it is. */
export function valueBytes({ image, at, sizeBytes }: XattrPair): Uint8Array {
  return image.bytes.subarray(at, at + sizeBytes);
}

/** What one reading of an image has met: most files have the same few names. */
export interface KnownXattrs {
  /** By offset: read and claimed once, one object for all inodes. */
  readonly shared: Map<number, XattrPair>;
  readonly names: KnownName[];
}

interface KnownName {
  readonly prefixIndex: number;
  /** Where the name without its prefix is in the image. */
  readonly at: number;
  readonly nameBytes: number;
  readonly name: ByteString;
}

/** Names beyond these are read each time they occur. */
const MAX_KNOWN_NAMES = 8;

export function createKnownXattrs(): KnownXattrs {
  return { shared: new Map(), names: [] };
}

export function readXattrPairs(
  image: ErofsImage,
  inode: RawInode,
  known: KnownXattrs,
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
    pairs.push(decodeEntry(image, at, known));
    at = entryEnd;
  }
  for (let i = 0; i < sharedCount; i++) {
    const offset = image.xattrBase + 4 * view.getUint32(sharedAt + 4 * i, true);
    pairs.push(readShared(image, offset, known));
  }
  return pairs;
}

function readShared(image: ErofsImage, offset: number, known: KnownXattrs): XattrPair {
  const cached = known.shared.get(offset);
  if (cached !== undefined) return cached;
  const end = entryEndAt(image, offset, image.bytes.length);
  claim(image, offset, end - offset);
  const pair = decodeEntry(image, offset, known);
  known.shared.set(offset, pair);
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

function decodeEntry(image: ErofsImage, at: number, known: KnownXattrs): XattrPair {
  const { bytes, view } = image;
  const nameBytes = bytes[at + XattrEntry.offsets.nameLength]!;
  const nameAt = at + XattrEntry.sizeBytes;
  const prefixIndex = bytes[at + XattrEntry.offsets.nameIndex]!;
  const name =
    findKnown(known.names, bytes, prefixIndex, nameAt, nameBytes) ??
    decodeName(image, prefixIndex, nameAt, nameBytes, known.names);
  const sizeBytes = view.getUint16(at + XattrEntry.offsets.valueSize, true);
  return { name, image, at: nameAt + nameBytes, sizeBytes };
}

function findKnown(
  names: readonly KnownName[],
  bytes: Uint8Array,
  prefixIndex: number,
  at: number,
  nameBytes: number,
): ByteString | null {
  next: for (let i = 0; i < names.length; i++) {
    const known = names[i]!;
    if (known.prefixIndex !== prefixIndex || known.nameBytes !== nameBytes) continue;
    for (let j = 0; j < nameBytes; j++) {
      if (bytes[known.at + j] !== bytes[at + j]) continue next;
    }
    return known.name;
  }
  return null;
}

function decodeName(
  { text }: ErofsImage,
  prefixIndex: number,
  at: number,
  nameBytes: number,
  names: KnownName[],
): ByteString {
  const prefix = XATTR_PREFIXES[prefixIndex];
  if (prefix === undefined) {
    throw imageError("unsupported", "Unknown xattr prefix", at - XattrEntry.sizeBytes);
  }
  const name = prefix + text.toString("latin1", at, at + nameBytes);
  if (name.length === 0 || name.length > 255 || name.includes("\0")) {
    const problem = "Xattr name is not 1 to 255 bytes without NUL";
    throw imageError("bad-value", problem, at - XattrEntry.sizeBytes);
  }
  if (names.length < MAX_KNOWN_NAMES) names.push({ prefixIndex, at, nameBytes, name });
  return name;
}
