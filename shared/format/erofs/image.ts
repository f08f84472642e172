// Raw access to a composefs EROFS image from an untrusted source (composefs.md 2.1, 2.2, 2.7).
//
// Every offset is checked before it is used. In an honest image no two inodes, shared xattrs or data
// blocks overlap, so everything read once is charged against the image's size: an image whose parts
// overlap, to make a small file look like an endless tree, runs out of budget and is refused.

import { FormatError } from "../../error.ts";
import { S_IFDIR, S_IFMT, S_IFREG } from "../tree/node.ts";
import {
  BLOCK_BYTES,
  ComposefsHeader,
  ErofsSuperblock,
  FORMAT_EXTENDED,
  HEADER_FLAG_ACL,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  LAYOUT_FLAT_INLINE,
  LAYOUT_FLAT_PLAIN,
  SLOT_BYTES,
  SUPERBLOCK_AT,
  XattrHeader,
} from "./layout.ts";

const MAX_IMAGE_BYTES = 2 ** 32;

export interface ErofsImage {
  readonly bytes: Uint8Array;
  /** The same memory, to make strings from it without a view for each. */
  readonly text: Buffer;
  readonly view: DataView;
  readonly version: 0 | 1 | 2;
  readonly rootNid: number;
  readonly buildTimeSec: number;
  readonly buildTimeNsec: number;
  /** Where shared xattr references count from. */
  readonly xattrBase: number;
  /** Bytes that may still be claimed. */
  budgetBytes: number;
}

export function imageError(
  code: "truncated" | "bad-magic" | "bad-value" | "limit" | "unsupported",
  message: string,
  offset: number,
): FormatError {
  return new FormatError(code, `EROFS image, offset ${offset}: ${message}`, {
    format: "erofs",
    offset,
  });
}

/** Checks headers; the rest is checked when it is read. */
export function openErofsImage(bytes: Uint8Array): ErofsImage {
  const { length } = bytes;
  if (length < BLOCK_BYTES || length % BLOCK_BYTES !== 0) {
    throw imageError("truncated", `Size ${length} is not a number of 4096-byte blocks`, 0);
  }
  if (length > MAX_IMAGE_BYTES) throw imageError("limit", "Image is larger than 4 GiB", 0);
  const header = ComposefsHeader.decode(bytes);
  const version = header.composefsVersion;
  if (version !== 0 && version !== 1 && version !== 2) {
    throw imageError("unsupported", `Unknown composefs version ${version}`, 12);
  }
  if ((header.flags & ~HEADER_FLAG_ACL) !== 0) {
    throw imageError("unsupported", `Unknown header flags ${header.flags}`, 8);
  }
  const superblock = ErofsSuperblock.decode(bytes, SUPERBLOCK_AT);
  if (superblock.blocks !== length / BLOCK_BYTES) {
    throw imageError("bad-value", `Block count ${superblock.blocks} is not the file's`, 1060);
  }
  return {
    bytes,
    text: Buffer.from(bytes.buffer, bytes.byteOffset, length),
    view: new DataView(bytes.buffer, bytes.byteOffset, length),
    version,
    rootNid: superblock.rootNid,
    buildTimeSec: signedSeconds(superblock.buildTime, SUPERBLOCK_AT),
    buildTimeNsec: superblock.buildTimeNsec,
    xattrBase: superblock.xattrBlockAddress * BLOCK_BYTES,
    budgetBytes: length,
  };
}

function signedSeconds(raw: bigint, offset: number): number {
  const seconds = Number(BigInt.asIntN(64, raw));
  if (!Number.isSafeInteger(seconds)) throw imageError("limit", "Time exceeds 2^53 s", offset);
  return seconds;
}

/** Takes `sizeBytes` at `offset` out of the budget after checking that they exist. */
export function claim(image: ErofsImage, offset: number, sizeBytes: number): void {
  if (offset + sizeBytes > image.bytes.length) {
    throw imageError("truncated", `${sizeBytes} bytes reach past the end of the image`, offset);
  }
  image.budgetBytes -= sizeBytes;
  if (image.budgetBytes < 0) {
    throw imageError("bad-value", "Parts of the image overlap", offset);
  }
}

/** An inode's fields; xattrs and data are found through the offsets. */
export interface RawInode {
  nid: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  sizeBytes: number;
  layout: number;
  u: number;
  xattrAt: number;
  xattrBytes: number;
  /** Bytes behind the xattrs and whole blocks at `u`, as the layout says. */
  tailAt: number;
  tailBytes: number;
  blocks: number;
}

/** Reads and claims the inode at `nid` with its xattrs, tail and blocks. */
export function readInode(image: ErofsImage, nid: number): RawInode {
  const at = nid * SLOT_BYTES;
  if (at < SUPERBLOCK_AT + ErofsSuperblock.sizeBytes || at + SLOT_BYTES > image.bytes.length) {
    throw imageError(
      "bad-value",
      `No inode can be at nid ${nid}`,
      Math.min(at, image.bytes.length),
    );
  }
  const { view } = image;
  const format = view.getUint16(at, true);
  const extended = (format & FORMAT_EXTENDED) !== 0;
  const headerBytes = extended ? InodeExtended.sizeBytes : InodeCompact.sizeBytes;
  if (at + headerBytes > image.bytes.length) throw imageError("truncated", "Inode is cut off", at);
  const xattrCount = view.getUint16(at + InodeCompact.offsets.xattrCount, true);
  const inode: RawInode = {
    nid,
    mode: view.getUint16(at + InodeCompact.offsets.mode, true),
    nlink: 0,
    uid: 0,
    gid: 0,
    mtimeSec: image.buildTimeSec,
    mtimeNsec: image.buildTimeNsec,
    sizeBytes: 0,
    layout: format & ~FORMAT_EXTENDED,
    u: view.getUint32(at + InodeCompact.offsets.u, true),
    xattrAt: at + headerBytes,
    xattrBytes: xattrCount === 0 ? 0 : XattrHeader.sizeBytes + (xattrCount - 1) * 4,
    tailAt: 0,
    tailBytes: 0,
    blocks: 0,
  };
  if (extended) readExtendedFields(view, at, inode);
  else readCompactFields(view, at, inode);
  inode.tailAt = inode.xattrAt + inode.xattrBytes;
  locateData(image, inode);
  claim(image, at, headerBytes + inode.xattrBytes + inode.tailBytes);
  return inode;
}

function readCompactFields(view: DataView, at: number, inode: RawInode): void {
  const { offsets } = InodeCompact;
  inode.nlink = view.getUint16(at + offsets.nlink, true);
  inode.sizeBytes = view.getUint32(at + offsets.size, true);
  inode.uid = view.getUint16(at + offsets.uid, true);
  inode.gid = view.getUint16(at + offsets.gid, true);
}

function readExtendedFields(view: DataView, at: number, inode: RawInode): void {
  const { offsets } = InodeExtended;
  const sizeHigh = view.getUint32(at + offsets.size + 4, true);
  inode.sizeBytes = sizeHigh * 2 ** 32 + view.getUint32(at + offsets.size, true);
  if (inode.sizeBytes > 2 ** 53) throw imageError("limit", "File size exceeds 2^53", at);
  const timeHigh = view.getInt32(at + offsets.mtime + 4, true);
  inode.mtimeSec = timeHigh * 2 ** 32 + view.getUint32(at + offsets.mtime, true);
  if (!Number.isSafeInteger(inode.mtimeSec)) throw imageError("limit", "Time exceeds 2^53 s", at);
  inode.mtimeNsec = view.getUint32(at + offsets.mtimeNsec, true);
  inode.nlink = view.getUint32(at + offsets.nlink, true);
  inode.uid = view.getUint32(at + offsets.uid, true);
  inode.gid = view.getUint32(at + offsets.gid, true);
}

function locateData(image: ErofsImage, inode: RawInode): void {
  const { layout, sizeBytes, tailAt } = inode;
  if (layout === LAYOUT_CHUNK_BASED) {
    if ((inode.mode & S_IFMT) !== S_IFREG) {
      throw imageError("bad-value", "Only files can be external", inode.nid * SLOT_BYTES);
    }
    locateChunks(image, inode);
    return;
  }
  if (layout !== LAYOUT_FLAT_PLAIN && layout !== LAYOUT_FLAT_INLINE) {
    throw imageError("unsupported", `Unknown data layout ${layout >> 1}`, inode.nid * SLOT_BYTES);
  }
  if (sizeBytes > image.bytes.length) {
    throw imageError("bad-value", `Data of ${sizeBytes} bytes is not in the image`, tailAt);
  }
  if (layout === LAYOUT_FLAT_INLINE) {
    inode.blocks = Math.floor(sizeBytes / BLOCK_BYTES);
    inode.tailBytes = sizeBytes % BLOCK_BYTES;
    checkTail(tailAt, inode.tailBytes);
  } else {
    inode.blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  }
  if (inode.blocks > 0) claim(image, inode.u * BLOCK_BYTES, inode.blocks * BLOCK_BYTES);
}

/** The kernel refuses tails that cross a block. */
function checkTail(tailAt: number, tailBytes: number): void {
  if ((tailAt % BLOCK_BYTES) + tailBytes > BLOCK_BYTES) {
    throw imageError("bad-value", "Inline data crosses a block", tailAt);
  }
}

const MIN_CHUNK_BITS = 12;
const MAX_CHUNKS = 1024;

function locateChunks(image: ErofsImage, inode: RawInode): void {
  const { sizeBytes, tailAt } = inode;
  const format = inode.u & 0xffff;
  if (format > 31) throw imageError("unsupported", `Unknown chunk format ${format}`, tailAt);
  if (image.version === 2) {
    // One index whatever the size; files without a digest have none, which their xattrs tell.
    inode.tailBytes = 0;
    return;
  }
  const chunks = Math.ceil(sizeBytes / 2 ** (MIN_CHUNK_BITS + format));
  if (chunks > MAX_CHUNKS) throw imageError("limit", "File has more than 1024 chunks", tailAt);
  const indexBytes = 4 * chunks;
  // An index that would cross a block even so lies in the data area.
  if (indexBytes + (inode.xattrBytes % SLOT_BYTES) > BLOCK_BYTES) return;
  inode.tailBytes = indexBytes;
  checkTail(tailAt, indexBytes);
}

export function isDirectoryInode(inode: RawInode): boolean {
  return (inode.mode & S_IFMT) === S_IFDIR;
}

/** Flat data in one piece: the blocks, then the tail. Copies only when it must join. */
export function readData(image: ErofsImage, inode: RawInode): Uint8Array {
  const { bytes } = image;
  const start = inode.u * BLOCK_BYTES;
  if (inode.tailBytes === 0) return bytes.subarray(start, start + inode.sizeBytes);
  const tail = bytes.subarray(inode.tailAt, inode.tailAt + inode.tailBytes);
  if (inode.blocks === 0) return tail;
  const data = new Uint8Array(inode.sizeBytes);
  data.set(bytes.subarray(start, start + inode.blocks * BLOCK_BYTES));
  data.set(tail, inode.blocks * BLOCK_BYTES);
  return data;
}
