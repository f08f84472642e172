// One tar member: the header block with its extension headers applied.
//
// Types that carry no data must state size 0: readers disagree on whether to skip such data, and
// that disagreement is how one archive is smuggled inside another.

import { FormatError } from "../../error.ts";
import { type ByteString, NO_XATTRS, type Xattrs } from "../tree/node.ts";
import type { RawHeader } from "./header.ts";
import type { PaxOverrides } from "./pax.ts";

export type TarEntryType =
  | "file"
  | "directory"
  | "symlink"
  | "hardlink"
  | "char"
  | "block"
  | "fifo";

export interface TarEntry {
  readonly type: TarEntryType;
  /** As in the archive: may start with "/" or "./", may contain "..", may end in "/". */
  readonly path: ByteString;
  /** Symlinks and hard links, else "". */
  readonly linkTarget: ByteString;
  /** Permission bits and set-id bits only. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Linux dev_t, new encoding; 0 unless a device. */
  readonly rdev: number;
  /** Bytes of content that follow; 0 unless a file. */
  readonly sizeBytes: number;
  readonly xattrs: Xattrs;
}

const PATH_MAX_BYTES = 4096;
const MAX_ID = 0xffffffff;

const TYPES: Readonly<Record<string, TarEntryType>> = {
  "\0": "file",
  "0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "directory",
  "6": "fifo",
  "7": "file",
};

/** FormatError for unknown types, sparse files and values out of range. */
export function makeEntry(header: RawHeader, overrides: PaxOverrides): TarEntry {
  const path = overrides.path ?? header.name;
  const type = readType(header.typeFlag, path);
  const isLink = type === "symlink" || type === "hardlink";
  const linkTarget = isLink ? (overrides.linkTarget ?? header.linkName) : "";
  checkLength(path, "path");
  checkLength(linkTarget, "link target");
  if (isLink && linkTarget === "") {
    throw new FormatError("bad-value", `${type} without a target`);
  }
  const sizeBytes = overrides.sizeBytes ?? header.sizeBytes;
  if (sizeBytes < 0 || (type !== "file" && sizeBytes !== 0)) {
    throw new FormatError("bad-value", `${type} states a size of ${sizeBytes} bytes`);
  }
  return {
    type,
    path,
    linkTarget,
    mode: header.mode & 0o7777,
    uid: checkId(overrides.uid ?? header.uid, "uid"),
    gid: checkId(overrides.gid ?? header.gid, "gid"),
    mtimeSec: overrides.mtimeSec ?? header.mtimeSec,
    mtimeNsec: overrides.mtimeNsec ?? 0,
    rdev: type === "char" || type === "block" ? encodeDevice(header) : 0,
    sizeBytes,
    xattrs: overrides.xattrs ?? NO_XATTRS,
  };
}

function readType(typeFlag: string, path: ByteString): TarEntryType {
  const type = TYPES[typeFlag];
  if (type === undefined) {
    const what = typeFlag === "S" ? "sparse files are" : `entry type "${typeFlag}" is`;
    throw new FormatError("unsupported", `${what} not supported in image layers`);
  }
  // V7 archives mark directories by the slash alone.
  return typeFlag === "\0" && path.endsWith("/") ? "directory" : type;
}

function checkLength(text: ByteString, what: string): void {
  if (text.length > PATH_MAX_BYTES) {
    throw new FormatError("limit", `${what} is longer than ${PATH_MAX_BYTES} bytes`);
  }
}

function checkId(id: number, what: string): number {
  if (id < 0 || id > MAX_ID) throw new FormatError("bad-value", `${what} ${id} is out of range`);
  return id;
}

function encodeDevice(header: RawHeader): number {
  const { deviceMajor: major, deviceMinor: minor } = header;
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) {
    throw new FormatError("bad-value", `device number ${major}:${minor} is out of range`);
  }
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}
