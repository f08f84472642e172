// PAX extended headers (POSIX.1-2001): "<length> <key>=<value>\n" records, read as bytes.
//
// Values stay byte strings: paths and xattrs need not be UTF-8. Malformed records are refused, never
// skipped (CVE-2025-62518: readers that disagree about `size` see different archives).

import { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";

/** What an extended header changes in the entry that follows it. */
export interface PaxOverrides {
  path?: ByteString;
  linkTarget?: ByteString;
  sizeBytes?: number;
  uid?: number;
  gid?: number;
  mtimeSec?: number;
  mtimeNsec?: number;
  xattrs?: Map<ByteString, Uint8Array>;
}

const XATTR_PREFIX = "SCHILY.xattr.";
/** XATTR_NAME_MAX and XATTR_SIZE_MAX of Linux. */
const MAX_XATTR_NAME_BYTES = 255;
const MAX_XATTR_VALUE_BYTES = 65536;

/** Adds the records of one extended header to `overrides`; a later record wins. */
export function parsePax(records: Buffer, overrides: PaxOverrides): void {
  let offset = 0;
  while (offset < records.length) {
    const space = records.indexOf(0x20, offset);
    // "1000000 " is already more than any header this reader accepts.
    if (space < 0 || space === offset || space - offset > 7) throw malformed(offset);
    const lengthBytes = readDecimal(records, offset, space);
    const end = offset + lengthBytes;
    const equals = records.indexOf(0x3d, space + 1);
    if (end > records.length || records[end - 1] !== 0x0a) throw malformed(offset);
    if (equals <= space + 1 || equals >= end) throw malformed(offset);
    const key = records.toString("latin1", space + 1, equals);
    applyRecord(overrides, key, records, equals + 1, end - 1);
    offset = end;
  }
}

function malformed(offset: number): FormatError {
  return new FormatError("bad-value", `PAX header has a malformed record at byte ${offset}`);
}

function readDecimal(records: Buffer, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = records[i]! - 0x30;
    if (digit < 0 || digit > 9) throw malformed(start);
    value = value * 10 + digit;
  }
  return value;
}

function applyRecord(
  overrides: PaxOverrides,
  key: ByteString,
  records: Buffer,
  start: number,
  end: number,
): void {
  if (key.startsWith(XATTR_PREFIX)) {
    const name = key.slice(XATTR_PREFIX.length);
    setXattr(overrides, name, new Uint8Array(records.subarray(start, end)));
    return;
  }
  if (key.startsWith("GNU.sparse.")) {
    throw new FormatError("unsupported", "sparse files are not supported in image layers");
  }
  const value = records.toString("latin1", start, end);
  // An empty value takes an earlier one back (POSIX pax, "Extended Header Keyword Precedence").
  switch (key) {
    case "path":
      setOrDelete(overrides, "path", readName(value, key));
      break;
    case "linkpath":
      setOrDelete(overrides, "linkTarget", readName(value, key));
      break;
    case "size":
      setOrDelete(overrides, "sizeBytes", readCount(value, key));
      break;
    case "uid":
      setOrDelete(overrides, "uid", readCount(value, key));
      break;
    case "gid":
      setOrDelete(overrides, "gid", readCount(value, key));
      break;
    case "mtime":
      setMtime(overrides, value);
      break;
    default: // comments, atime, vendor keys: no meaning for a file tree
  }
}

function setOrDelete<K extends "path" | "linkTarget" | "sizeBytes" | "uid" | "gid">(
  overrides: PaxOverrides,
  key: K,
  value: PaxOverrides[K],
): void {
  if (value === undefined) delete overrides[key];
  else overrides[key] = value;
}

function readName(value: ByteString, key: string): ByteString | undefined {
  if (value.includes("\0")) throw new FormatError("bad-value", `PAX ${key} has a NUL byte`);
  return value === "" ? undefined : value;
}

function readCount(value: string, key: string): number | undefined {
  if (value === "") return undefined;
  const count = Number(value);
  if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(count)) {
    throw new FormatError("bad-value", `PAX ${key} "${value}" is not a number`);
  }
  return count;
}

/** "seconds[.fraction]"; the first nine digits of the fraction count, as composefs-rs reads it. */
function setMtime(overrides: PaxOverrides, value: string): void {
  if (value === "") {
    delete overrides.mtimeSec;
    delete overrides.mtimeNsec;
    return;
  }
  const match = /^(-?\d{1,16})(?:\.(\d*))?$/.exec(value);
  const seconds = Number(match?.[1]);
  if (match === null || !Number.isSafeInteger(seconds)) {
    throw new FormatError("bad-value", `PAX mtime "${value}" is not a time`);
  }
  // `+ 0` turns -0 into 0.
  overrides.mtimeSec = seconds + 0;
  overrides.mtimeNsec = Number((match[2] ?? "").slice(0, 9).padEnd(9, "0"));
}

function setXattr(overrides: PaxOverrides, name: ByteString, value: Uint8Array): void {
  if (name === "" || name.length > MAX_XATTR_NAME_BYTES || name.includes("\0")) {
    throw new FormatError("bad-value", `PAX header has an xattr with a bad name`);
  }
  if (value.length > MAX_XATTR_VALUE_BYTES) {
    throw new FormatError("limit", `xattr "${name}" is longer than ${MAX_XATTR_VALUE_BYTES} bytes`);
  }
  overrides.xattrs ??= new Map();
  overrides.xattrs.set(name, value);
}
