// The file tree every other format meets: tar layers and directories are read into it, dump text
// and EROFS images are made from it and read back into it.
//
// Invariants:
// - Names, symlink targets, payloads and xattr names are *byte strings*: JS strings holding one byte
//   per UTF-16 unit (latin1). File names are bytes, and comparing such strings compares bytes.
// - A hard-linked leaf is the same `Leaf` object under several names; directories have one parent.
// - `mode` is the full st_mode (type bits and 0o7777). `nlink` of leaves is whatever the source said
//   (C mkcomposefs keeps lies); writers that recompute it ignore it. Directories derive theirs.
// - Sizes and seconds are safe integers (|n| <= 2^53); readers refuse others with FormatError.

/** One byte per character; see the header. */
export type ByteString = string;

/** xattr full name -> value. Use `NO_XATTRS` for the common empty case (it is shared: never mutate). */
export type Xattrs = ReadonlyMap<ByteString, Uint8Array>;
export const NO_XATTRS: Xattrs = new Map();

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;

interface Metadata {
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since the epoch, may be negative. */
  mtimeSec: number;
  /** 0..999_999_999 */
  mtimeNsec: number;
  xattrs: Xattrs;
}

/** Content of a regular file. */
export type FileContent =
  /** The bytes live in the image itself (size 0 or small). */
  | { readonly kind: "inline"; readonly bytes: Uint8Array }
  /**
   * The bytes live in the object store. `digest` is lower-case hex (64 or 128 digits), absent for
   * "no verity"; `payload` is the object path ("ab/cdef…"), absent for a sparse file.
   */
  | {
      readonly kind: "external";
      readonly sizeBytes: number;
      readonly digest?: string;
      readonly payload?: ByteString;
    };

/** Fields of everything but directories. */
interface LeafMetadata extends Metadata {
  nlink: number;
  /**
   * The name that carries a hard-linked inode, where a C dump or image tells ("@" marks the other
   * names). Without it C's order takes the first name breadth-first; Rust's order ignores it.
   */
  home?: { readonly directory: DirectoryNode; readonly name: ByteString };
}

export interface FileNode extends LeafMetadata {
  readonly kind: "file";
  content: FileContent;
}
export interface SymlinkNode extends LeafMetadata {
  readonly kind: "symlink";
  target: ByteString;
}
/** Character and block devices, FIFOs and sockets; `mode` says which. */
export interface SpecialNode extends LeafMetadata {
  readonly kind: "special";
  /** dev_t low 32 bits in the new encoding; 0 for FIFOs and sockets. */
  rdev: number;
  /** Set when a C dump gives it a size above 4 GiB: C then writes the larger inode form. */
  readonly statesLargeSize?: true;
}
export interface DirectoryNode extends Metadata {
  readonly kind: "directory";
  readonly entries: Map<ByteString, TreeNode>;
}
export type Leaf = FileNode | SymlinkNode | SpecialNode;
export type TreeNode = Leaf | DirectoryNode;

/** Text (UTF-8) to byte string. */
export function toByteString(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** Byte string to text for messages; invalid UTF-8 shows as U+FFFD. */
export function fromByteString(bytes: ByteString): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** Byte string to bytes, e.g. for a system call. */
export function byteStringToBytes(bytes: ByteString): Uint8Array {
  return Buffer.from(bytes, "latin1");
}

/** Bytes to byte string. */
export function bytesToByteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Entry names in byte order. */
export function sortedNames(directory: DirectoryNode): ByteString[] {
  const names = [...directory.entries.keys()];
  // As images have them; asking is cheaper than sorting.
  for (let i = 1; i < names.length; i++) if (names[i - 1]! > names[i]!) return names.sort();
  return names;
}
