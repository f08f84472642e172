// What versions 0 and 1 change about a tree before writing it (composefs.md 2.3, 2.12).
//
// A whiteout (char device 0:0) would act in the composefs mount itself, so it becomes a regular file
// that says "whiteout" through xattrs, also to overlayfs mounts nested inside; its directory is
// marked as well. The root gets `opaque` and 256 real whiteouts 00..ff, which hide the object store
// where the kernel cannot take it as a data-only layer.

import { appendStringToArena } from "../../bytes/arena.ts";
import { FormatError } from "../../error.ts";
import { S_IFCHR, S_IFREG } from "../tree/node.ts";
import type { ErofsFormat } from "./format.ts";
import {
  addEntry,
  addInode,
  ENTRY_NAME,
  ENTRY_NAME_BYTES,
  ENTRY_WORDS,
  firstEntryOf,
  homeOf,
  INODE_GID,
  INODE_MTIME,
  INODE_MTIME_HIGH,
  INODE_NSEC,
  INODE_UID,
  INODE_WORDS,
  INODE_XATTRS,
  type InodeTable,
  inodeOfEntry,
  isDirectory,
  isWhiteout,
  modeOf,
  NONE,
  nextEntryOf,
  setHome,
  setMode,
  setSize,
} from "./inode-table.ts";
import { appendXattrList, comparePairs, internXattrName, internXattrPair } from "./xattr-table.ts";

const STUB_MODE = S_IFCHR | 0o644;
const EMPTY = new Uint8Array(0);
const SELINUX = "security.selinux";
/** What stubs take over from the root. */
const ROOT_WORDS = [INODE_UID, INODE_GID, INODE_MTIME, INODE_MTIME_HIGH, INODE_NSEC];

/** Adds the missing 00..ff entries to the root; returns the first stub's inode number. */
export function addObjectStubs(table: InodeTable): number {
  const first = table.inodeCount;
  const taken = shortRootNames(table);
  const label = selinuxPair(table);
  const xattrs = label === null ? 0 : appendXattrList(table.xattrs, [label], []);
  const fields = { mode: STUB_MODE, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 };
  for (let number = 0; number < 256; number++) {
    const name = number.toString(16).padStart(2, "0");
    if (taken.has(name)) continue;
    const inode = addInode(table, fields, 1);
    const { inodes } = table;
    for (const word of ROOT_WORDS) inodes[inode * INODE_WORDS + word] = inodes[word]!;
    inodes[inode * INODE_WORDS + INODE_XATTRS] = xattrs;
    const nameAt = appendStringToArena(table.text, name);
    setHome(table, inode, addEntry(table, 0, nameAt, 2, inode));
  }
  return first;
}

function shortRootNames(table: InodeTable): Set<string> {
  const names = new Set<string>();
  const { bytes } = table.text;
  for (let entry = firstEntryOf(table, 0); entry !== NONE; entry = nextEntryOf(table, entry)) {
    if (table.entries[entry * ENTRY_WORDS + ENTRY_NAME_BYTES] !== 2) continue;
    const at = table.entries[entry * ENTRY_WORDS + ENTRY_NAME]! >>> 0;
    names.add(String.fromCharCode(bytes[at]!, bytes[at + 1]!));
  }
  return names;
}

/** Number of the root's label, or null. */
function selinuxPair(table: InodeTable): number | null {
  const { xattrs } = table;
  const name = xattrs.nameIds.get(SELINUX);
  const pairs = pairsOf(table, 0);
  return pairs.find((pair) => xattrs.nameOf[pair] === name) ?? null;
}

function pairsOf({ inodes, xattrs }: InodeTable, inode: number): number[] {
  const run = inodes[inode * INODE_WORDS + INODE_XATTRS]!;
  return Array.from(xattrs.lists.subarray(run + 1, run + 1 + xattrs.lists[run]!));
}

/** Turns whiteouts below `firstStub` into marked regular files; homes must be decided. */
export function escapeWhiteouts(table: InodeTable, format: ErofsFormat, firstStub: number): void {
  if (!table.hasWhiteouts) return;
  const names = countNames(table, format);
  for (let directory = 0; directory < firstStub; directory++) {
    let found = false;
    if (!isDirectory(table, directory)) continue;
    for (let e = firstEntryOf(table, directory); e !== NONE; e = nextEntryOf(table, e)) {
      const inode = inodeOfEntry(table, e);
      if (inode >= firstStub || homeOf(table, inode) !== e || !isWhiteout(table, inode)) continue;
      if (format.dialect === "rust") {
        if (directory === 0 && looksLikeStub(table, e)) continue;
        refuseLinked(names, inode);
      }
      found = true;
      escapeWhiteout(table, format, inode);
    }
    if (found) markParent(table, format, directory);
  }
}

/** Names per inode, where that matters (Rust refuses whiteouts with several). */
function countNames(table: InodeTable, format: ErofsFormat): Uint32Array | null {
  if (!table.hasLinks || format.dialect === "c") return null;
  const names = new Uint32Array(table.inodeCount);
  for (let e = 1; e < table.entryCount; e++) names[inodeOfEntry(table, e)]! += 1;
  return names;
}

function refuseLinked(names: Uint32Array | null, inode: number): void {
  if (names === null || names[inode]! <= 1) return;
  throw new FormatError("unsupported", "A whiteout has more than one name", { format: "erofs" });
}

function escapeWhiteout(table: InodeTable, format: ErofsFormat, inode: number): void {
  setMode(table, inode, S_IFREG | (modeOf(table, inode) & 0o7777));
  setSize(table, inode, 0);
  setXattr(table, format, inode, "trusted.overlay.overlay.whiteout", EMPTY);
  setXattr(table, format, inode, "user.overlay.whiteout", EMPTY);
}

function markParent(table: InodeTable, format: ErofsFormat, directory: number): void {
  setXattr(table, format, directory, "trusted.overlay.overlay.whiteouts", EMPTY);
  setXattr(table, format, directory, "user.overlay.whiteouts", EMPTY);
  if (format.version === 0) return;
  const x = Buffer.from("x");
  setXattr(table, format, directory, "trusted.overlay.overlay.opaque", x);
  setXattr(table, format, directory, "user.overlay.opaque", x);
}

/** Rust tells its own 00..ff entries from the tree's by looks. */
function looksLikeStub(table: InodeTable, entry: number): boolean {
  const { entries, inodes, text, xattrs } = table;
  const at = entries[entry * ENTRY_WORDS + ENTRY_NAME]! >>> 0;
  if (entries[entry * ENTRY_WORDS + ENTRY_NAME_BYTES] !== 2) return false;
  if (!isHexDigit(text.bytes[at]!) || !isHexDigit(text.bytes[at + 1]!)) return false;
  const inode = inodeOfEntry(table, entry);
  if (modeOf(table, inode) !== STUB_MODE) return false;
  if (ROOT_WORDS.some((word) => inodes[inode * INODE_WORDS + word] !== inodes[word])) return false;
  const label = selinuxPair(table);
  const run = inodes[inode * INODE_WORDS + INODE_XATTRS]!;
  if (label === null) return run === 0;
  return xattrs.lists[run] === 1 && xattrs.lists[run + 1] === label;
}

function isHexDigit(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66);
}

/** Marks the root as opaque, in clear: this one is for the composefs mount. */
export function markRootOpaque(table: InodeTable, format: ErofsFormat): void {
  setXattr(table, format, 0, "trusted.overlay.opaque", Buffer.from("y"));
}

/** C replaces a value that is already there, Rust adds a second one. */
function setXattr(
  table: InodeTable,
  format: ErofsFormat,
  inode: number,
  name: string,
  value: Uint8Array,
): void {
  const { xattrs } = table;
  const id = internXattrName(xattrs, name);
  const pairs = pairsOf(table, inode);
  const kept = format.dialect === "c" ? pairs.filter((pair) => xattrs.nameOf[pair] !== id) : pairs;
  kept.push(internXattrPair(xattrs, id, value));
  kept.sort((a, b) => comparePairs(xattrs, a, b));
  table.inodes[inode * INODE_WORDS + INODE_XATTRS] = appendXattrList(xattrs, kept, []);
}
