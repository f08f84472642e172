// Where the numbers of an EROFS image are, found as far as the image makes sense: damaged parts are
// skipped, never refused. Lets the fuzzer change what means something.

import {
  BLOCK_BYTES,
  ComposefsHeader,
  DirectoryEntry,
  ErofsSuperblock,
  FORMAT_EXTENDED,
  INODES_AT,
  InodeCompact,
  InodeExtended,
  SLOT_BYTES,
  SUPERBLOCK_AT,
  XattrEntry,
  XattrHeader,
} from "../../shared/format/erofs/layout.ts";
import type { Random } from "../support/random-dump.ts";
import { pickInteger, putInteger } from "./mutate.ts";

interface FieldPlace {
  readonly at: number;
  readonly sizeBytes: number;
  /** Fields of one kind hold values that can be exchanged. */
  readonly kind: string;
}

interface Listing {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly fields: FieldPlace[];
  readonly inodes: { readonly at: number; readonly sizeBytes: number }[];
  readonly seen: Set<number>;
}

const MAX_INODES = 400;
/** Of the 256 devices in the root of versions 0 and 1 a few are enough. */
const CHAR_DEVICE = 3;
const LISTED_DEVICE = 50;

/** Changes one number, or puts one inode over another; null when there is nothing to be found. */
export function mutateErofs(bytes: Uint8Array, random: Random): Uint8Array | null {
  if (bytes.length < INODES_AT + InodeExtended.sizeBytes) return null;
  const { fields, inodes } = listFields(bytes);
  if (inodes.length > 1 && random.chance(10)) {
    const [from, to] = [random.pick(inodes), random.pick(inodes)];
    bytes.copyWithin(to.at, from.at, Math.min(bytes.length, from.at + from.sizeBytes));
    return bytes;
  }
  // First the kind: there are many more directory entries than anything else.
  const kinds = [...new Set(fields.map(({ kind }) => kind))];
  const kind = random.pick(kinds);
  const places = fields.filter((place) => place.kind === kind);
  const { at, sizeBytes } = random.pick(places);
  const way = random.below(4);
  if (way === 0) putInteger(bytes, at, sizeBytes, pickInteger(random));
  else if (way === 1) bytes[at]! += random.chance(50) ? 1 : 255;
  else if (way === 2) bytes[at + random.below(sizeBytes)]! ^= 1 << random.below(8);
  else {
    const other = random.pick(places);
    bytes.copyWithin(at, other.at, other.at + Math.min(sizeBytes, other.sizeBytes));
  }
  return bytes;
}

/** Makes the size whole blocks and the superblock say how many. */
export function repairErofs(bytes: Uint8Array): Uint8Array {
  const blocks = Math.max(1, Math.ceil(bytes.length / BLOCK_BYTES));
  const whole = new Uint8Array(blocks * BLOCK_BYTES);
  whole.set(bytes);
  putInteger(whole, SUPERBLOCK_AT + ErofsSuperblock.offsets.blocks, 4, BigInt(blocks));
  return whole;
}

function listFields(bytes: Uint8Array): Listing {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const listing: Listing = { bytes, view, fields: [], inodes: [], seen: new Set() };
  const add = (kind: string, at: number, sizeBytes: number) =>
    listing.fields.push({ kind, at, sizeBytes });
  add("version", ComposefsHeader.offsets.composefsVersion, 4);
  add("flags", ComposefsHeader.offsets.flags, 4);
  const { offsets } = ErofsSuperblock;
  add("rootNid", SUPERBLOCK_AT + offsets.rootNid, 2);
  add("time", SUPERBLOCK_AT + offsets.buildTime, 8);
  add("xattrBlock", SUPERBLOCK_AT + offsets.xattrBlockAddress, 4);
  const pending = [view.getUint16(SUPERBLOCK_AT + offsets.rootNid, true)];
  for (let nid = pending.pop(); nid !== undefined; nid = pending.pop()) {
    if (listing.seen.has(nid) || listing.seen.size > MAX_INODES) continue;
    listing.seen.add(nid);
    listInode(listing, nid, pending);
  }
  return listing;
}

function listInode(listing: Listing, nid: number, pending: number[]): void {
  const { view, bytes } = listing;
  const at = nid * SLOT_BYTES;
  if (at < INODES_AT || at + InodeExtended.sizeBytes > bytes.length) return;
  const isExtended = (view.getUint16(at, true) & FORMAT_EXTENDED) !== 0;
  const layout = isExtended ? InodeExtended : InodeCompact;
  addInodeFields(listing, at, isExtended);
  const xattrCount = view.getUint16(at + InodeCompact.offsets.xattrCount, true);
  const xattrAt = at + layout.sizeBytes;
  const xattrBytes = xattrCount === 0 ? 0 : XattrHeader.sizeBytes + 4 * (xattrCount - 1);
  if (xattrBytes > 0) listXattrs(listing, xattrAt, Math.min(bytes.length, xattrAt + xattrBytes));
  const tailAt = xattrAt + xattrBytes;
  listing.inodes.push({ at, sizeBytes: tailAt - at });
  const isDirectory = (view.getUint16(at + InodeCompact.offsets.mode, true) & 0o170000) === 0o40000;
  if (!isDirectory) return;
  const size = view.getUint32(at + InodeCompact.offsets.size, true);
  const start = view.getUint32(at + InodeCompact.offsets.u, true) * BLOCK_BYTES;
  const isInline = (view.getUint16(at, true) & ~FORMAT_EXTENDED) !== 0;
  const blocks = Math.min(
    16,
    isInline ? Math.floor(size / BLOCK_BYTES) : Math.ceil(size / BLOCK_BYTES),
  );
  for (let i = 0; i < blocks; i++) listEntries(listing, start + i * BLOCK_BYTES, pending);
  if (isInline) listEntries(listing, tailAt, pending);
}

function addInodeFields({ fields }: Listing, at: number, isExtended: boolean): void {
  const compact = InodeCompact.offsets;
  const extended = InodeExtended.offsets;
  const add = (kind: string, offset: number, sizeBytes: number) =>
    fields.push({ kind, at: at + offset, sizeBytes });
  add("format", compact.format, 2);
  add("xattrCount", compact.xattrCount, 2);
  add("mode", compact.mode, 2);
  add("size", compact.size, isExtended ? 8 : 4);
  add("u", compact.u, 4);
  if (!isExtended) {
    add("nlink", compact.nlink, 2);
    add("id", compact.uid, 2);
    return;
  }
  add("nlink", extended.nlink, 4);
  add("id", extended.gid, 4);
  add("time", extended.mtime, 8);
  add("nsec", extended.mtimeNsec, 4);
}

function listXattrs({ view, bytes, fields }: Listing, at: number, end: number): void {
  if (at + XattrHeader.sizeBytes > end) return;
  const shared = bytes[at + XattrHeader.offsets.sharedCount]!;
  fields.push({ kind: "sharedCount", at: at + XattrHeader.offsets.sharedCount, sizeBytes: 1 });
  let next = at + XattrHeader.sizeBytes;
  for (let i = 0; i < shared && next + 4 <= end; i++, next += 4) {
    fields.push({ kind: "sharedRef", at: next, sizeBytes: 4 });
  }
  while (next + XattrEntry.sizeBytes <= end) {
    const { nameLength, nameIndex, valueSize } = XattrEntry.offsets;
    fields.push({ kind: "xattrNameLength", at: next + nameLength, sizeBytes: 1 });
    fields.push({ kind: "xattrPrefix", at: next + nameIndex, sizeBytes: 1 });
    fields.push({ kind: "xattrValueSize", at: next + valueSize, sizeBytes: 2 });
    fields.push({ kind: "xattrText", at: next + XattrEntry.sizeBytes, sizeBytes: 8 });
    const length = bytes[next + nameLength]! + view.getUint16(next + valueSize, true);
    next += (XattrEntry.sizeBytes + length + 3) & ~3;
  }
}

function listEntries({ view, bytes, fields }: Listing, at: number, pending: number[]): void {
  const { sizeBytes, offsets } = DirectoryEntry;
  if (at + sizeBytes > bytes.length) return;
  const count = Math.floor(view.getUint16(at + offsets.nameOffset, true) / sizeBytes);
  for (let i = 0; i < count && at + (i + 1) * sizeBytes <= bytes.length; i++) {
    const entryAt = at + i * sizeBytes;
    const isDevice = bytes[entryAt + offsets.fileType] === CHAR_DEVICE;
    if (isDevice && i % LISTED_DEVICE !== 0) continue;
    fields.push({ kind: "nid", at: entryAt + offsets.nid, sizeBytes: 4 });
    fields.push({ kind: "nameOffset", at: entryAt + offsets.nameOffset, sizeBytes: 2 });
    fields.push({ kind: "fileType", at: entryAt + offsets.fileType, sizeBytes: 1 });
    pending.push(view.getUint32(entryAt + offsets.nid, true));
  }
}
