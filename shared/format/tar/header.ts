// The 512-byte tar header block: V7, ustar (POSIX.1-1988) and GNU.
//
// Numbers are octal text or, when the top bit of the first byte is set, big-endian base 256 (GNU).
// Text fields are byte strings that end at the first NUL. Errors carry the field name; the reader
// adds the entry and its offset.

import { bytes, ignored, struct, u8 } from "../../bytes/layout.ts";
import { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";

export const BLOCK_SIZE_BYTES = 512;

const TarHeader = struct("tar_header", BLOCK_SIZE_BYTES, {
  name: bytes(100),
  mode: bytes(8),
  uid: bytes(8),
  gid: bytes(8),
  size: bytes(12),
  mtime: bytes(12),
  checksum: bytes(8),
  typeFlag: u8,
  linkName: bytes(100),
  magic: bytes(8),
  userName: bytes(32),
  groupName: bytes(32),
  deviceMajor: bytes(8),
  deviceMinor: bytes(8),
  prefix: bytes(155),
  padding: ignored(12),
});
const at = TarHeader.offsets;

export interface RawHeader {
  /** One character; NUL (old V7) is given as "\0". */
  readonly typeFlag: string;
  /** With the ustar prefix joined; not normalised. */
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeSec: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
}

/** Reads the block at `offset`; null when all its bytes are zero. FormatError on a wrong checksum. */
export function parseHeader(source: Buffer, offset: number): RawHeader | null {
  if (!verifyChecksum(source, offset)) return null;
  const magic = source.toString("latin1", offset + at.magic, offset + at.magic + 8);
  const isUstar = magic.startsWith("ustar\0");
  const isGnu = magic === "ustar  \0";
  const prefix = isUstar ? readText(source, offset + at.prefix, 155) : "";
  const name = readText(source, offset + at.name, 100);
  const typeFlag = String.fromCharCode(source[offset + at.typeFlag]!);
  const isDevice = (typeFlag === "3" || typeFlag === "4") && (isUstar || isGnu);
  return {
    typeFlag,
    name: prefix === "" ? name : `${prefix}/${name}`,
    linkName: readText(source, offset + at.linkName, 100),
    mode: readNumber(source, offset + at.mode, 8, "mode"),
    uid: readNumber(source, offset + at.uid, 8, "uid"),
    gid: readNumber(source, offset + at.gid, 8, "gid"),
    sizeBytes: readNumber(source, offset + at.size, 12, "size"),
    mtimeSec: readNumber(source, offset + at.mtime, 12, "mtime"),
    deviceMajor: isDevice ? readNumber(source, offset + at.deviceMajor, 8, "major number") : 0,
    deviceMinor: isDevice ? readNumber(source, offset + at.deviceMinor, 8, "minor number") : 0,
  };
}

/** False for an all-zero block. Both the signed and the unsigned sum are in use. */
function verifyChecksum(source: Buffer, offset: number): boolean {
  let unsigned = 0;
  let highBytes = 0;
  for (let i = offset; i < offset + BLOCK_SIZE_BYTES; i++) {
    const byte = source[i]!;
    unsigned += byte;
    highBytes += byte >> 7;
  }
  if (unsigned === 0) return false;
  // The checksum field itself counts as eight spaces.
  for (let i = offset + at.checksum; i < offset + at.checksum + 8; i++) {
    unsigned += 0x20 - source[i]!;
    highBytes -= source[i]! >> 7;
  }
  const stated = readNumber(source, offset + at.checksum, 8, "checksum");
  if (stated !== unsigned && stated !== unsigned - 256 * highBytes) {
    throw new FormatError("bad-value", `header checksum is ${stated}, expected ${unsigned}`);
  }
  return true;
}

function readText(source: Buffer, offset: number, sizeBytes: number): ByteString {
  let end = offset;
  while (end < offset + sizeBytes && source[end] !== 0) end++;
  return source.toString("latin1", offset, end);
}

function readNumber(source: Buffer, offset: number, sizeBytes: number, field: string): number {
  const end = offset + sizeBytes;
  if (source[offset]! >= 0x80) return readBase256(source, offset, end, field);
  let i = offset;
  while (i < end && (source[i] === 0x20 || source[i] === 0)) i++;
  let value = 0;
  for (; i < end && source[i] !== 0x20 && source[i] !== 0; i++) {
    const digit = source[i]! - 0x30;
    if (digit < 0 || digit > 7) {
      throw new FormatError("bad-value", `${field} is not an octal number`);
    }
    value = value * 8 + digit;
  }
  return value;
}

/** 0x80 starts a positive number, 0xff a negative one in two's complement. */
function readBase256(source: Buffer, offset: number, end: number, field: string): number {
  const isNegative = (source[offset]! & 0x40) !== 0;
  let value = isNegative ? ~source[offset]! & 0x3f : source[offset]! & 0x3f;
  for (let i = offset + 1; i < end; i++) {
    value = value * 256 + (isNegative ? ~source[i]! & 0xff : source[i]!);
    if (value > Number.MAX_SAFE_INTEGER) {
      throw new FormatError("limit", `${field} does not fit in 53 bits`);
    }
  }
  return isNegative ? -value - 1 : value;
}
