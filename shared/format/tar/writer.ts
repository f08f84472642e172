// Tar members as layers have them: a ustar header (POSIX.1-1988), and a PAX header before it for whatever does not
// fit: long paths, fractions of seconds, times before 1970, extended attributes.
//
// The same entry gives the same bytes, and reading them (reader.ts) gives the same entry.

import { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";
import type { TarEntry, TarEntryType } from "./entry.ts";
import { BLOCK_SIZE_BYTES } from "./header.ts";

const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};
const MAX_NAME_BYTES = 100;
const MAX_ID = 0o7777777;
const MAX_NUMBER = 0o77777777777;
const PAX_NAME = "PaxHeaders/entry";

/** Two blocks of zeros. */
export const TAR_END_BYTES = 2 * BLOCK_SIZE_BYTES;

/** Everything before the content. Device numbers are not written: FormatError. */
export function encodeTarHeader(entry: TarEntry): Uint8Array {
  if (entry.type === "char" || entry.type === "block") {
    throw new FormatError("unsupported", "Device nodes cannot be written to a tar");
  }
  const records = paxRecords(entry);
  const header = encodeBlock(entry, TYPE_FLAGS[entry.type]);
  if (records.length === 0) return header;
  const content = Buffer.concat(records);
  const pax = { ...entry, path: PAX_NAME, linkTarget: "", mode: 0o644, sizeBytes: content.length };
  const first = encodeBlock({ ...pax, uid: 0, gid: 0, mtimeSec: 0 }, "x");
  const padding = Buffer.alloc(tarPaddingBytes(content.length));
  return Buffer.concat([first, content, padding, header]);
}

/** Zeros after a content of this size. */
export function tarPaddingBytes(sizeBytes: number): number {
  return (BLOCK_SIZE_BYTES - (sizeBytes % BLOCK_SIZE_BYTES)) % BLOCK_SIZE_BYTES;
}

/** In the order of the fields, attributes by name. */
function paxRecords(entry: TarEntry): Buffer[] {
  const { path, linkTarget, uid, gid, sizeBytes, xattrs } = entry;
  const records: Buffer[] = [];
  const add = (key: ByteString, value: Uint8Array | string) =>
    records.push(paxRecord(key, typeof value === "string" ? Buffer.from(value, "latin1") : value));
  if (path.length > MAX_NAME_BYTES) add("path", path);
  if (linkTarget.length > MAX_NAME_BYTES) add("linkpath", linkTarget);
  if (uid > MAX_ID) add("uid", String(uid));
  if (gid > MAX_ID) add("gid", String(gid));
  if (sizeBytes > MAX_NUMBER) add("size", String(sizeBytes));
  const time = paxTime(entry);
  if (time !== null) add("mtime", time);
  for (const name of [...xattrs.keys()].sort()) add(`SCHILY.xattr.${name}`, xattrs.get(name)!);
  return records;
}

/** Null when the header has room for it. The reader takes seconds and fraction each for itself. */
function paxTime({ mtimeSec, mtimeNsec }: TarEntry): string | null {
  if (mtimeNsec === 0 && mtimeSec >= 0 && mtimeSec <= MAX_NUMBER) return null;
  if (mtimeNsec === 0) return String(mtimeSec);
  const fraction = String(mtimeNsec).padStart(9, "0").replace(/0+$/, "");
  return `${mtimeSec}.${fraction}`;
}

/** "<length> <key>=<value>\n", where the length counts itself. */
function paxRecord(key: ByteString, value: Uint8Array): Buffer {
  const rest = Buffer.concat([
    Buffer.from(` ${key}=`, "latin1"),
    value,
    Buffer.from("\n", "latin1"),
  ]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length++;
  return Buffer.concat([Buffer.from(String(length), "latin1"), rest]);
}

function encodeBlock(entry: TarEntry, typeFlag: string): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE_BYTES);
  const fits = (value: number, max: number) => (value >= 0 && value <= max ? value : 0);
  block.write(entry.path, 0, MAX_NAME_BYTES, "latin1");
  writeOctal(block, 100, 8, entry.mode);
  writeOctal(block, 108, 8, fits(entry.uid, MAX_ID));
  writeOctal(block, 116, 8, fits(entry.gid, MAX_ID));
  writeOctal(block, 124, 12, fits(entry.sizeBytes, MAX_NUMBER));
  writeOctal(block, 136, 12, fits(entry.mtimeSec, MAX_NUMBER));
  block.write(typeFlag, 156, "latin1");
  block.write(entry.linkTarget, 157, MAX_NAME_BYTES, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  writeOctal(block, 329, 8, 0);
  writeOctal(block, 337, 8, 0);
  // While the sum is made its own field counts as spaces.
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

function writeOctal(block: Buffer, offset: number, width: number, value: number): void {
  block.write(`${value.toString(8).padStart(width - 1, "0")}\0`, offset, "latin1");
}
