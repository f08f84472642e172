// On-disk structures of a composefs EROFS image (kernel fs/erofs/erofs_fs.h; composefs.md 2.1-2.7).
//
// Block 4096 bytes, inode slots 32 bytes; a nid is an offset divided by 32, because the metadata
// area starts at block 0. All integers little-endian.

import { constant, ignored, struct, u8, u16, u32, u64, u64n, zeros } from "../../bytes/layout.ts";

export const BLOCK_BYTES = 4096;
export const SLOT_BYTES = 32;
export const SUPERBLOCK_AT = 1024;
export const INODES_AT = 1152;

export const HEADER_FLAG_ACL = 1;

/** Composefs' own header at offset 0. */
export const ComposefsHeader = struct("composefs_header", 32, {
  magic: constant(u32, 0xd078629a),
  version: constant(u32, 1),
  flags: u32,
  composefsVersion: u32,

  unused: zeros(16),
});

/** feature_compat: inode mtimes (2) and xattr name filters (4). */
const FEATURE_COMPAT = 0x6;

export const ErofsSuperblock = struct("erofs_super_block", 128, {
  magic: constant(u32, 0xe0f5e1e2),
  checksum: ignored(4),
  featureCompat: constant(u32, FEATURE_COMPAT),
  blockSizeBits: constant(u8, 12),
  extSlots: zeros(1),
  rootNid: u16,

  inodeCount: u64n,
  buildTime: u64,

  buildTimeNsec: u32,
  blocks: u32,
  metaBlockAddress: constant(u32, 0),
  xattrBlockAddress: u32,

  uuid: ignored(16),

  volumeName: ignored(16),

  // The images use chunk-based inodes, yet composefs leaves the feature bit clear.
  featureIncompat: constant(u32, 0),
  compression: zeros(2),
  extraDevices: zeros(2),
  deviceSlot: zeros(2),
  directoryBlockBits: zeros(1),
  xattrPrefixCount: zeros(1),

  xattrPrefixStart: zeros(4),
  packedNid: zeros(8),
  xattrFilterReserved: zeros(1),
  reserved: zeros(23),
});

export const InodeCompact = struct("erofs_inode_compact", 32, {
  format: u16,
  xattrCount: u16,
  mode: u16,
  nlink: u16,
  size: u32,
  reserved: zeros(4),

  u: u32,
  ino: u32,
  uid: u16,
  gid: u16,
  reserved2: zeros(4),
});

export const InodeExtended = struct("erofs_inode_extended", 64, {
  format: u16,
  xattrCount: u16,
  mode: u16,
  reserved: zeros(2),
  size: u64n,

  u: u32,
  ino: u32,
  uid: u32,
  gid: u32,

  mtime: u64,
  mtimeNsec: u32,
  nlink: u32,

  reserved2: zeros(16),
});

export const FORMAT_EXTENDED = 1;
/** Data layouts, already shifted into `i_format`. */
export const LAYOUT_FLAT_PLAIN = 0 << 1;
export const LAYOUT_FLAT_INLINE = 2 << 1;
export const LAYOUT_CHUNK_BASED = 4 << 1;

export const XattrHeader = struct("erofs_xattr_ibody_header", 12, {
  nameFilter: u32,
  sharedCount: u8,
  reserved: zeros(7),
});
export const XattrEntry = struct("erofs_xattr_entry", 4, {
  nameLength: u8,
  nameIndex: u8,
  valueSize: u16,
});
export const DirectoryEntry = struct("erofs_dirent", 12, {
  nid: u64n,
  nameOffset: u16,
  fileType: u8,
  reserved: zeros(1),
});

/** Dirent file type by `mode >> 12`. */
export const FILE_TYPE_OF_MODE: readonly number[] = [
  0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0,
];

/** Unused chunk address: the data is not in this image. */
export const CHUNK_HOLE = 0xffff_ffff;
/** A directory tail or file tail longer than this gets a block of its own. */
export const MAX_TAIL_BYTES = 2048;
