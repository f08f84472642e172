// Fills inode columns, with every xattr in the form the image stores: names escaped, external files
// carrying overlayfs' metacopy and redirect (composefs.md 2.3, 2.10-2.12).

import { appendStringToArena, appendToArena } from "../../bytes/arena.ts";
import { toHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import type { ByteString, Xattrs } from "../tree/node.ts";
import {
  objectPath,
  type VerityAlgorithm,
  verityAlgorithmId,
  verityHashBytes,
} from "../verity/digest.ts";
import { METACOPY, REDIRECT } from "./backing.ts";
import type { ErofsFormat } from "./format.ts";
import {
  createInodeTable,
  DATA_EXTERNAL,
  DATA_EXTERNAL_BARE,
  DATA_INLINE,
  type InodeTable,
} from "./inode-table.ts";
import { escapeXattrName } from "./xattr-name.ts";
import { appendXattrList, comparePairs, internXattrName, internXattrPair } from "./xattr-table.ts";

export interface InodeBuilder {
  readonly table: InodeTable;
  readonly format: ErofsFormat;
  /** Demanded of every object digest when given. */
  readonly algorithm: VerityAlgorithm | undefined;
  /** Metacopy and redirect of the inode at hand. */
  readonly pairs: number[];
  /** Pair numbers of xattr sets seen lately: files mostly share a few. */
  readonly ownPairs: Map<Xattrs, readonly number[]>;
}

const MAX_CACHED_SETS = 4096;
const EMPTY = new Uint8Array(0);

export function createInodeBuilder(
  format: ErofsFormat,
  algorithm: VerityAlgorithm | undefined,
): InodeBuilder {
  const table = createInodeTable(format.version === 2);
  return { table, format, algorithm, pairs: [], ownPairs: new Map() };
}

/** Version 2 stores both behind the inode and has no other place for them. */
const MAX_TARGET_BYTES_V2 = 1024;
const MAX_CONTENT_BYTES_V2 = 512;

function checkInlineSize(b: InodeBuilder, what: string, sizeBytes: number, max: number): void {
  if (b.format.version !== 2 || sizeBytes <= max) return;
  throw new FormatError("limit", `${what} has ${sizeBytes} bytes, version 2 allows ${max}`, {
    format: "erofs",
    field: "size",
  });
}

export function setTarget(b: InodeBuilder, inode: number, target: ByteString): void {
  checkInlineSize(b, "Symlink target", target.length, MAX_TARGET_BYTES_V2);
  const { table } = b;
  table.data[inode] = DATA_INLINE;
  table.size[inode] = target.length;
  table.contentAt[inode] = appendStringToArena(table.text, target);
}

export function setInlineContent(b: InodeBuilder, inode: number, content: Uint8Array): void {
  if (content.length === 0) return;
  checkInlineSize(b, "Inline content", content.length, MAX_CONTENT_BYTES_V2);
  const { table } = b;
  table.data[inode] = DATA_INLINE;
  table.size[inode] = content.length;
  table.contentAt[inode] = appendToArena(table.text, content);
}

/**
 * Data in the object store: `digest` has 32 or 64 bytes, `payload` is the object's path or "".
 * Call `setXattrs` afterwards.
 */
export function setExternalContent(
  b: InodeBuilder,
  inode: number,
  sizeBytes: number,
  digest: Uint8Array | null,
  payload: ByteString,
): void {
  const { table } = b;
  // C has no external file without bytes; it writes an empty one.
  if (sizeBytes === 0 && b.format.dialect === "c") return;
  table.data[inode] = digest === null ? DATA_EXTERNAL_BARE : DATA_EXTERNAL;
  table.size[inode] = sizeBytes;
  pushMetacopy(b, digest);
  // Rust derives the path from the digest, C takes what the dump said.
  const derived = digest !== null && b.format.dialect === "rust";
  const path = derived ? objectPath(toHex(digest)) : payload;
  if (path !== "") pushRedirect(b, path);
}

const metacopy = new Uint8Array(4 + 64);
let redirect = new Uint8Array(256);

/** `struct ovl_metacopy`: version 0, length, flags 0, algorithm, digest; empty without digest. */
function pushMetacopy(b: InodeBuilder, digest: Uint8Array | null): void {
  const { xattrs } = b.table;
  const name = internXattrName(xattrs, METACOPY);
  if (digest === null) {
    b.pairs.push(internXattrPair(xattrs, name, EMPTY));
    return;
  }
  const isSha512 = digest.length === verityHashBytes("sha512");
  const algorithm: VerityAlgorithm = isSha512 ? "sha512" : "sha256";
  const isWanted = b.algorithm === undefined || b.algorithm === algorithm;
  if (digest.length !== verityHashBytes(algorithm) || !isWanted) {
    const wanted = b.algorithm ?? "sha256 or sha512";
    const message = `Object digest "${toHex(digest)}" is not a ${wanted} digest`;
    throw new FormatError("bad-value", message, { format: "erofs", field: "digest" });
  }
  const length = 4 + digest.length;
  metacopy[1] = length;
  metacopy[3] = verityAlgorithmId(algorithm);
  metacopy.set(digest, 4);
  b.pairs.push(internXattrPair(xattrs, name, metacopy, 0, length));
}

function pushRedirect(b: InodeBuilder, path: ByteString): void {
  const { xattrs } = b.table;
  const length = path.length + 1;
  if (length > redirect.length) redirect = new Uint8Array(length);
  redirect[0] = 0x2f;
  for (let i = 1; i < length; i++) redirect[i] = path.charCodeAt(i - 1);
  b.pairs.push(internXattrPair(xattrs, internXattrName(xattrs, REDIRECT), redirect, 0, length));
}

/** Stores the inode's own xattrs together with what `setExternalContent` left. */
export function setXattrs(b: InodeBuilder, inode: number, own: Xattrs): void {
  const { table, pairs } = b;
  if (own.size > 0) for (const pair of ownPairs(b, own)) pairs.push(pair);
  if (pairs.length === 0) return;
  if (pairs.length > 1 && b.format.version !== 2) {
    pairs.sort((x, y) => comparePairs(table.xattrs, x, y));
  }
  table.xattrAt[inode] = appendXattrList(table.xattrs, pairs);
  table.xattrCount[inode] = pairs.length;
  pairs.length = 0;
}

function ownPairs(b: InodeBuilder, xattrs: Xattrs): readonly number[] {
  const known = b.ownPairs.get(xattrs);
  if (known !== undefined) return known;
  checkXattrBudget(b, xattrs);
  const table = b.table.xattrs;
  const pairs: number[] = [];
  for (const name of [...xattrs.keys()].sort()) {
    const id = internXattrName(table, escapeXattrName(name));
    pairs.push(internXattrPair(table, id, xattrs.get(name)!));
  }
  if (b.ownPairs.size < MAX_CACHED_SETS) b.ownPairs.set(xattrs, pairs);
  return pairs;
}

/** What C lets an inode's xattrs take, counted as C counts: before escaping. */
const MAX_XATTR_BYTES_C = 32767;

function checkXattrBudget(b: InodeBuilder, xattrs: Xattrs): void {
  let total = 12;
  for (const [name, value] of xattrs) total += 7 + name.length + value.length;
  if (total <= MAX_XATTR_BYTES_C || b.format.dialect === "rust") return;
  const message = `Extended attributes of a file take ${total} of ${MAX_XATTR_BYTES_C} bytes`;
  throw new FormatError("limit", message, { format: "erofs", field: "xattr" });
}
