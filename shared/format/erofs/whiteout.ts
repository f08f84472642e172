// What versions 0 and 1 change about a tree before writing it (composefs.md 2.3, 2.12).
//
// A whiteout (char device 0:0) would act in the composefs mount itself, so it becomes a regular file
// that says "whiteout" through xattrs, also to overlayfs mounts nested inside; its directory is
// marked as well. The root gets `opaque` and 256 real whiteouts 00..ff, which hide the object store
// where the kernel cannot take it as a data-only layer.

import { FormatError } from "../../error.ts";
import { S_IFCHR, S_IFMT, S_IFREG } from "../tree/node.ts";
import type { ErofsFormat } from "./format.ts";
import { addEntry, addInode, type InodeTable, NONE } from "./inode-table.ts";
import { appendXattrList, comparePairs, internXattrName, internXattrPair } from "./xattr-table.ts";

const STUB_MODE = S_IFCHR | 0o644;
const EMPTY = new Uint8Array(0);
const SELINUX = "security.selinux";

/** Adds the missing 00..ff entries to the root; returns the first stub's inode number. */
export function addObjectStubs(table: InodeTable): number {
  const first = table.inodeCount;
  const taken = shortRootNames(table);
  const label = selinuxPair(table);
  const fields = {
    mode: STUB_MODE,
    uid: table.uid[0]!,
    gid: table.gid[0]!,
    mtimeSec: table.mtimeSec[0]!,
    mtimeNsec: table.mtimeNsec[0]!,
  };
  for (let number = 0; number < 256; number++) {
    const name = number.toString(16).padStart(2, "0");
    if (taken.has(name)) continue;
    const inode = addInode(table, fields, 1);
    if (label !== NONE) {
      table.xattrAt[inode] = appendXattrList(table.xattrs, [label]);
      table.xattrCount[inode] = 1;
    }
    table.home[inode] = addEntry(table, 0, name, inode);
  }
  return first;
}

function shortRootNames(table: InodeTable): Set<string> {
  const names = new Set<string>();
  const { bytes } = table.text;
  for (let entry = table.firstEntry[0]!; entry !== NONE; entry = table.nextEntry[entry]!) {
    if (table.nameLength[entry] !== 2) continue;
    const at = table.nameAt[entry]!;
    names.add(String.fromCharCode(bytes[at]!, bytes[at + 1]!));
  }
  return names;
}

function selinuxPair(table: InodeTable): number {
  const { xattrs } = table;
  const name = xattrs.nameIds.get(SELINUX);
  if (name === undefined) return NONE;
  for (let i = 0; i < table.xattrCount[0]!; i++) {
    const pair = xattrs.lists[table.xattrAt[0]! + i]!;
    if (xattrs.nameOf[pair] === name) return pair;
  }
  return NONE;
}

function isWhiteout(table: InodeTable, inode: number): boolean {
  return (table.mode[inode]! & S_IFMT) === S_IFCHR && table.rdev[inode] === 0;
}

/** Turns whiteouts below `firstStub` into marked regular files; homes must be decided. */
export function escapeWhiteouts(table: InodeTable, format: ErofsFormat, firstStub: number): void {
  if (!hasWhiteout(table, firstStub)) return;
  const names = countNames(table, format);
  for (let directory = 0; directory < firstStub; directory++) {
    let found = false;
    for (let e = table.firstEntry[directory]!; e !== NONE; e = table.nextEntry[e]!) {
      const inode = table.entryInode[e]!;
      if (inode >= firstStub || table.home[inode] !== e || !isWhiteout(table, inode)) continue;
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

/** Whether one of the inodes before `firstStub` is a whiteout. */
export function hasWhiteout(table: InodeTable, firstStub: number): boolean {
  for (let inode = 1; inode < firstStub; inode++) if (isWhiteout(table, inode)) return true;
  return false;
}

/** Names per inode, where that matters (Rust refuses whiteouts with several). */
function countNames(table: InodeTable, format: ErofsFormat): Uint32Array | null {
  if (!table.hasLinks || format.dialect === "c") return null;
  const names = new Uint32Array(table.inodeCount);
  for (let entry = 0; entry < table.entryCount; entry++) names[table.entryInode[entry]!]! += 1;
  return names;
}

function refuseLinked(names: Uint32Array | null, inode: number): void {
  if (names === null || names[inode]! <= 1) return;
  throw new FormatError("unsupported", "A whiteout has more than one name", { format: "erofs" });
}

function escapeWhiteout(table: InodeTable, format: ErofsFormat, inode: number): void {
  table.mode[inode] = S_IFREG | (table.mode[inode]! & 0o7777);
  table.size[inode] = 0;
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
  const inode = table.entryInode[entry]!;
  const at = table.nameAt[entry]!;
  const { bytes } = table.text;
  if (table.nameLength[entry] !== 2 || !isHexDigit(bytes[at]!) || !isHexDigit(bytes[at + 1]!)) {
    return false;
  }
  const label = selinuxPair(table);
  const labelled = label === NONE ? 0 : 1;
  return (
    table.mode[inode] === STUB_MODE &&
    table.uid[inode] === table.uid[0] &&
    table.gid[inode] === table.gid[0] &&
    table.mtimeSec[inode] === table.mtimeSec[0] &&
    table.mtimeNsec[inode] === table.mtimeNsec[0] &&
    table.xattrCount[inode] === labelled &&
    (labelled === 0 || table.xattrs.lists[table.xattrAt[inode]!] === label)
  );
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
  const start = table.xattrAt[inode]!;
  const pairs = Array.from(xattrs.lists.subarray(start, start + table.xattrCount[inode]!));
  const kept = format.dialect === "c" ? pairs.filter((pair) => xattrs.nameOf[pair] !== id) : pairs;
  kept.push(internXattrPair(xattrs, id, value));
  kept.sort((a, b) => comparePairs(xattrs, a, b));
  table.xattrAt[inode] = appendXattrList(xattrs, kept);
  table.xattrCount[inode] = kept.length;
}
