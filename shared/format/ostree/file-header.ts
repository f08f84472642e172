// The header of a content object, and the checksum that names it (ostree.md 4.2): SHA-256 over the header's
// length (32 bits, big-endian), four zero bytes, the header `(uuuusa(ayay))`, and the file's bytes. The same in
// every repository; an archive keeps the header with the size in front, `(tuuuusa(ayay))`, before the
// compressed bytes, which the checksum does not cover.

import { FormatError } from "../../error.ts";
import { decodeGVariant } from "../gvariant/decode.ts";
import { encodeGVariant } from "../gvariant/encode.ts";
import type { GVariant } from "../gvariant/value.ts";
import {
  type ByteString,
  fromByteString,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  toByteString,
} from "../tree/node.ts";
import { swap32, swapToNumber } from "./byte-order.ts";
import { checkMode, type Ownership, xattrsFromVariant, xattrsToVariant } from "./metadata.ts";

export interface FileHeader extends Ownership {
  /** What a symlink says; null for a regular file. */
  readonly target: ByteString | null;
}

/** Bytes in front of a header: its length, and zeros. */
const PREFIX_BYTES = 8;
/** A header is xattrs and a link target; the kernel has no more than 64 KiB of each in one file. */
export const MAX_HEADER_BYTES = 1 << 20;

/** A hash that has seen the header and waits for the file's bytes. */
export function startContentChecksum(header: FileHeader): InstanceType<typeof Bun.SHA256> {
  return new Bun.SHA256().update(frame(encodeGVariant("(uuuusa(ayay))", headerFields(header))));
}

function headerFields({ mode, uid, gid, target, xattrs }: FileHeader): GVariant[] {
  const text = requireText(target ?? "", "A symlink's target");
  return [swap32(uid), swap32(gid), swap32(mode), 0, text, xattrsToVariant(xattrs)];
}

function frame(header: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PREFIX_BYTES + header.length);
  new DataView(bytes.buffer).setUint32(0, header.length, false);
  bytes.set(header, PREFIX_BYTES);
  return bytes;
}

/** Bytes that `parseArchiveHeader` needs, from the first eight of a `.filez`. */
export function archiveHeaderBytes(prefix: Uint8Array): number {
  if (prefix.length < PREFIX_BYTES) throw malformed("is cut off", "truncated");
  const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
  const length = view.getUint32(0, false);
  if (view.getUint32(4, false) !== 0) throw malformed("does not have zeros after its length");
  if (length > MAX_HEADER_BYTES) throw malformed(`claims ${length} bytes`, "limit");
  return PREFIX_BYTES + length;
}

/** From a `.filez`; `bytes` may go on after the header. */
export function parseArchiveHeader(bytes: Uint8Array): {
  readonly header: FileHeader;
  readonly sizeBytes: number;
} {
  const end = archiveHeaderBytes(bytes);
  if (bytes.length < end) throw malformed("is cut off", "truncated");
  const fields = decodeGVariant("(tuuuusa(ayay))", bytes.subarray(PREFIX_BYTES, end));
  const [size, uid, gid, mode, rdev, target, xattrs] = fields as [
    bigint,
    number,
    number,
    number,
    number,
    string,
    GVariant,
  ];
  if (rdev !== 0) throw malformed("is of a device");
  const owner = { mode: swap32(mode), uid: swap32(uid), gid: swap32(gid) };
  const sizeBytes = swapToNumber(size, "The size in a file header");
  const header = makeFileHeader({ ...owner, xattrs: xattrsFromVariant(xattrs) }, target);
  if (header.target !== null && sizeBytes !== 0) throw malformed("is a symlink with content");
  return { header, sizeBytes };
}

/** Checks that type and target go together; `target` is "" for a regular file. */
export function makeFileHeader(ownership: Ownership, target: string): FileHeader {
  checkMode(ownership, [S_IFREG, S_IFLNK], "A file header");
  const isLink = (ownership.mode & S_IFMT) === S_IFLNK;
  if (!isLink && target !== "") throw malformed("is a regular file with a link target");
  return { ...ownership, target: isLink ? toByteString(target) : null };
}

/** UTF-8 text of a name or target: ostree has no others. FormatError naming `what`. */
export function requireText(bytes: ByteString, what: string): string {
  const text = fromByteString(bytes);
  if (toByteString(text) === bytes) return text;
  throw new FormatError(
    "bad-value",
    `${what}, "${text}", is not valid UTF-8, which ostree requires`,
    { format: "ostree" },
  );
}

function malformed(
  problem: string,
  code: "bad-value" | "truncated" | "limit" = "bad-value",
): FormatError {
  return new FormatError(code, `The header of a file object ${problem}`, { format: "ostree" });
}
