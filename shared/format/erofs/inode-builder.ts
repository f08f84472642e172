// Fills inodes, with every xattr in the form the image stores: names escaped, external files carrying
// overlayfs' metacopy and redirect (composefs.md 2.3, 2.10-2.12).

import { fromHex, toHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import type { Xattrs } from "../tree/node.ts";
import { NO_XATTRS } from "../tree/node.ts";
import { type VerityAlgorithm, verityHashBytes } from "../verity/digest.ts";
import { METACOPY, REDIRECT } from "./backing.ts";
import { internMetacopy, isObjectPath, type Payload, redirectOfMetacopy } from "./digest-table.ts";
import type { ErofsFormat } from "./format.ts";
import {
  createInodeTable,
  DATA_EXTERNAL,
  DATA_EXTERNAL_BARE,
  DATA_INLINE,
  INODE_CONTENT,
  INODE_WORDS,
  INODE_XATTRS,
  type InodeTable,
  setData,
  setSize,
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
  /** The set of xattrs seen last, and more of them: files mostly share a few. */
  own: OwnXattrs;
  readonly known: Map<Xattrs, OwnXattrs>;
}

/** Xattrs that a file has by itself, not for its content. */
interface OwnXattrs {
  readonly xattrs: Xattrs;
  readonly pairs: readonly number[];
  /** Whether all of them come before the object's. */
  readonly isFirst: boolean;
  /** The run in the table of these pairs alone. */
  readonly run: number;
}

const NOTHING_OWN: OwnXattrs = { xattrs: NO_XATTRS, pairs: [], isFirst: true, run: 0 };
const MAX_CACHED_SETS = 4096;
const EMPTY = new Uint8Array(0);

export function createInodeBuilder(
  format: ErofsFormat,
  algorithm: VerityAlgorithm | undefined,
): InodeBuilder {
  const table = createInodeTable(format.version === 2);
  return { table, format, algorithm, pairs: [], own: NOTHING_OWN, known: new Map() };
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

/** The target is in the table's text already. */
export function setTarget(b: InodeBuilder, inode: number, textAt: number, sizeBytes: number): void {
  checkInlineSize(b, "Symlink target", sizeBytes, MAX_TARGET_BYTES_V2);
  setInline(b.table, inode, textAt, sizeBytes);
}

/** The content is in the table's text already. */
export function setInlineContent(
  b: InodeBuilder,
  inode: number,
  textAt: number,
  sizeBytes: number,
): void {
  if (sizeBytes === 0) return;
  checkInlineSize(b, "Inline content", sizeBytes, MAX_CONTENT_BYTES_V2);
  setInline(b.table, inode, textAt, sizeBytes);
}

function setInline(table: InodeTable, inode: number, textAt: number, sizeBytes: number): void {
  setData(table, inode, DATA_INLINE);
  setSize(table, inode, sizeBytes);
  table.inodes[inode * INODE_WORDS + INODE_CONTENT] = textAt;
}

/**
 * Data in the object store: `digest` has 32 or 64 bytes, `payload` null stands for the digest's own path. Call
 * `setXattrs` afterwards.
 */
export function setExternalContent(
  b: InodeBuilder,
  inode: number,
  sizeBytes: number,
  digest: Uint8Array | null,
  payload: Payload | null,
): void {
  const { table } = b;
  // C has no external file without bytes; it writes an empty one.
  if (sizeBytes === 0 && b.format.dialect === "c") return;
  setData(table, inode, digest === null ? DATA_EXTERNAL_BARE : DATA_EXTERNAL);
  setSize(table, inode, sizeBytes);
  if (digest === null) pushBare(b, payload);
  else pushDigest(b, digest, payload);
}

function pushDigest(b: InodeBuilder, digest: Uint8Array, payload: Payload | null): void {
  checkDigest(b, digest);
  const metacopy = internMetacopy(b.table.xattrs.digests, digest);
  b.pairs.push(metacopy);
  // Rust derives the path from the digest, C takes what the dump said; mostly it is the same.
  const isOwn = payload === null || b.format.dialect === "rust" || isObjectPath(payload, digest);
  if (isOwn) b.pairs.push(redirectOfMetacopy(metacopy));
  else pushRedirect(b, payload);
}

function checkDigest(b: InodeBuilder, digest: Uint8Array): void {
  const { length } = digest;
  const algorithm: VerityAlgorithm = length === verityHashBytes("sha512") ? "sha512" : "sha256";
  const isWanted = b.algorithm === undefined || b.algorithm === algorithm;
  if (length === verityHashBytes(algorithm) && isWanted) return;
  const wanted = b.algorithm ?? "sha256 or sha512";
  const message = `Object digest "${toHex(digest)}" is not a ${wanted} digest`;
  throw new FormatError("bad-value", message, { format: "erofs", field: "digest" });
}

/** Without a digest the metacopy is empty. */
function pushBare(b: InodeBuilder, payload: Payload | null): void {
  const { xattrs } = b.table;
  b.pairs.push(internXattrPair(xattrs, internXattrName(xattrs, METACOPY), EMPTY));
  if (payload !== null) pushRedirect(b, payload);
}

const OBJECT_PATH = /^[0-9a-f]{2}\/(?:[0-9a-f]{62}|[0-9a-f]{126})$/;

/** A path that is not that of the file's own digest, or of which there is none. */
function pushRedirect(b: InodeBuilder, { bytes, start, end }: Payload): void {
  if (start === end) return;
  const { xattrs } = b.table;
  const path = Buffer.from(bytes.subarray(start, end)).toString("latin1");
  if (OBJECT_PATH.test(path)) {
    const digest = fromHex(path.replace("/", ""));
    b.pairs.push(redirectOfMetacopy(internMetacopy(xattrs.digests, digest)));
    return;
  }
  const value = Buffer.from(`/${path}`, "latin1");
  b.pairs.push(internXattrPair(xattrs, internXattrName(xattrs, REDIRECT), value));
}

/** Stores the inode's own xattrs together with what `setExternalContent` left. */
export function setXattrs(b: InodeBuilder, inode: number, own: Xattrs): void {
  if (own !== b.own.xattrs) b.own = findOwn(b, own);
  b.table.inodes[inode * INODE_WORDS + INODE_XATTRS] =
    b.pairs.length === 0 ? b.own.run : joinPairs(b);
}

function joinPairs({ table, format, pairs, own }: InodeBuilder): number {
  const { xattrs } = table;
  let run: number;
  if (own.isFirst) {
    run = appendXattrList(xattrs, own.pairs, pairs);
  } else if (format.version === 2) {
    run = appendXattrList(xattrs, pairs, own.pairs);
  } else {
    const sorted = [...pairs, ...own.pairs].sort((x, y) => comparePairs(xattrs, x, y));
    run = appendXattrList(xattrs, sorted, []);
  }
  pairs.length = 0;
  return run;
}

function findOwn(b: InodeBuilder, xattrs: Xattrs): OwnXattrs {
  const known = b.known.get(xattrs);
  if (known !== undefined) return known;
  const own = internOwn(b, xattrs);
  if (b.known.size < MAX_CACHED_SETS) b.known.set(xattrs, own);
  return own;
}

function internOwn(b: InodeBuilder, xattrs: Xattrs): OwnXattrs {
  checkXattrBudget(b, xattrs);
  const table = b.table.xattrs;
  // Escaping keeps names in order.
  const names = [...xattrs.keys()].sort();
  const pairs = names.map((name) => {
    const id = internXattrName(table, escapeXattrName(name));
    return internXattrPair(table, id, xattrs.get(name)!);
  });
  // Version 2 stores them behind the object's, whatever their names.
  const isFirst = b.format.version !== 2 && names.every((name) => escapeXattrName(name) < METACOPY);
  return { xattrs, pairs, isFirst, run: appendXattrList(table, pairs, []) };
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
