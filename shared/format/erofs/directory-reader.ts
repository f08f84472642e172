// Entries of an on-disk directory, checked as the kernel's lookup needs them: names in strict byte
// order over all blocks, `.` and `..` present and true.

import { type ByteString, fromByteString } from "../tree/node.ts";
import { type ErofsImage, imageError, type RawInode } from "./image.ts";
import { BLOCK_BYTES, DirectoryEntry, SLOT_BYTES } from "./layout.ts";

export interface RawEntry {
  readonly name: ByteString;
  readonly nid: number;
  readonly fileType: number;
}

const ENTRY_BYTES = DirectoryEntry.sizeBytes;
const ENTRY = DirectoryEntry.offsets;

/** All entries but `.` and `..`. */
export function readEntries(image: ErofsImage, inode: RawInode, parentNid: number): RawEntry[] {
  const entries: RawEntry[] = [];
  const start = inode.u * BLOCK_BYTES;
  for (let i = 0; i < inode.blocks; i++) {
    const at = start + i * BLOCK_BYTES;
    const end = Math.min(at + BLOCK_BYTES, start + inode.sizeBytes);
    readBlock(image, at, end, entries);
  }
  if (inode.tailBytes > 0) {
    readBlock(image, inode.tailAt, inode.tailAt + inode.tailBytes, entries);
  }
  checkOrder(entries, inode);
  return withoutDots(entries, inode, parentNid);
}

function readBlock(image: ErofsImage, at: number, end: number, entries: RawEntry[]): void {
  const { view, bytes, text } = image;
  if (end - at < ENTRY_BYTES) throw imageError("truncated", "Directory block is too short", at);
  const namesAt = view.getUint16(at + ENTRY.nameOffset, true);
  if (namesAt === 0 || namesAt % ENTRY_BYTES !== 0 || at + namesAt > end) {
    throw imageError("bad-value", `Bad name offset ${namesAt}`, at);
  }
  let nameAt = namesAt;
  for (let entryAt = at; entryAt < at + namesAt; entryAt += ENTRY_BYTES) {
    const isLast = entryAt + ENTRY_BYTES === at + namesAt;
    const nextAt = isLast
      ? endOfName(bytes, at + nameAt, end) - at
      : view.getUint16(entryAt + ENTRY_BYTES + ENTRY.nameOffset, true);
    if (view.getUint16(entryAt + ENTRY.nameOffset, true) !== nameAt || at + nextAt > end) {
      throw imageError("bad-value", "Names are not back to back", entryAt);
    }
    if (view.getUint32(entryAt + ENTRY.nid + 4, true) !== 0) {
      throw imageError("bad-value", "Entry points outside the image", entryAt);
    }
    entries.push({
      name: readName(text, at + nameAt, at + nextAt),
      nid: view.getUint32(entryAt + ENTRY.nid, true),
      fileType: bytes[entryAt + ENTRY.fileType]!,
    });
    nameAt = nextAt;
  }
}

/** A block's last name ends at the padding or the block's end. */
function endOfName(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && bytes[at] !== 0) at += 1;
  return at;
}

function readName(text: Buffer, at: number, end: number): ByteString {
  const length = end - at;
  if (length < 1 || length > 255) throw imageError("bad-value", "Name is not 1 to 255 bytes", at);
  for (let i = at; i < end; i++) {
    const code = text[i]!;
    if (code === 0 || code === 0x2f) throw imageError("bad-value", "Name has a slash or NUL", at);
  }
  return text.toString("latin1", at, end);
}

function checkOrder(entries: readonly RawEntry[], inode: RawInode): void {
  for (let i = 1; i < entries.length; i++) {
    if (entries[i - 1]!.name < entries[i]!.name) continue;
    const name = fromByteString(entries[i]!.name);
    throw imageError("bad-value", `Name "${name}" is out of order`, inode.nid * SLOT_BYTES);
  }
}

function withoutDots(entries: RawEntry[], inode: RawInode, parentNid: number): RawEntry[] {
  let dots = 0;
  const rest = entries.filter((entry) => {
    if (entry.name !== "." && entry.name !== "..") return true;
    const expected = entry.name === "." ? inode.nid : parentNid;
    if (entry.nid === expected) dots += 1;
    return false;
  });
  if (dots !== 2) {
    throw imageError("bad-value", "Directory has no true . and ..", inode.nid * SLOT_BYTES);
  }
  return rest;
}
