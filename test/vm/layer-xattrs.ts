// Extended attributes for image layers: read from files, written as PAX records.
// Invariant: values are bytes, never text.

import { lgetxattr, llistxattr } from "../../shared/sys/xattr.ts";

export type Xattrs = ReadonlyMap<string, Buffer>;

/** The attributes of one file, sorted by name. */
export function readXattrs(path: string): Xattrs {
  const names = llistxattr(path).sort();
  return new Map(names.map((name) => [name, Buffer.from(lgetxattr(path, name) ?? [])]));
}

/** Whether the bytes survive a round trip through a string. */
export function isText(value: Buffer): boolean {
  return Buffer.from(value.toString()).equals(value);
}

/** A complete PAX extended header (header block, records, padding) for the entry that follows. */
export function binaryPax(attributes: ReadonlyArray<readonly [string, Buffer]>): Buffer {
  const records = Buffer.concat(
    attributes.map(([key, value]) => paxRecord(`SCHILY.xattr.${key}`, value)),
  );
  const header = Buffer.alloc(512);
  const put = (offset: number, text: string) => header.write(text, offset, "latin1");
  const octal = (offset: number, width: number, value: number) =>
    put(offset, `${value.toString(8).padStart(width - 1, "0")}\0`);
  put(0, "PaxHeader");
  octal(100, 8, 0o644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, records.length);
  octal(136, 12, 0);
  put(148, "        ");
  put(156, "x");
  put(257, "ustar\x0000");
  octal(
    148,
    7,
    header.reduce((sum, byte) => sum + byte, 0),
  );
  return Buffer.concat([header, records, Buffer.alloc((512 - (records.length % 512)) % 512)]);
}

function paxRecord(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from("\n")]);
  // The length counts its own digits.
  let length = body.length + 1;
  while (`${length}`.length + body.length !== length) length = `${length}`.length + body.length;
  return Buffer.concat([Buffer.from(`${length}`), body]);
}
