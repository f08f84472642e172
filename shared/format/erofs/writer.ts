// Writes EROFS images bit-exactly as C mkcomposefs and composefs-rs do (composefs.md section 2).
//
// A deployment's identity is the fs-verity digest of these bytes. The tree becomes columns
// (flatten.ts), the columns are put in order (arrange.ts), and `emitImage` runs twice over a sink:
// once to learn every position, once to write.

import { createBufferSink, createCountingSink } from "../../bytes/sink.ts";
import type { DumpOptions } from "../tree/dump-field.ts";
import type { DirectoryNode } from "../tree/node.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
import { arrangeImage } from "./arrange.ts";
import { createLayoutState, emitImage } from "./emit.ts";
import { flattenTree } from "./flatten.ts";
import { flattenDump } from "./flatten-dump.ts";
import type { ErofsFormat } from "./format.ts";
import type { InodeTable } from "./inode-table.ts";
import { hasWhiteout } from "./whiteout.ts";

/**
 * The image of a tree, which stays unchanged. `algorithm`, when given, is demanded of every object
 * digest. Throws FormatError for trees the format cannot hold.
 */
export function writeErofs(
  root: DirectoryNode,
  format: ErofsFormat,
  algorithm?: VerityAlgorithm,
): Uint8Array {
  const exact = exactFormat(format);
  return writeTable(flattenTree(root, exact, algorithm), exact);
}

/** The image of a dump, given whole or in pieces: the same bytes as by way of a tree, for less. */
export function writeErofsFromDump(
  dump: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions,
  format: ErofsFormat,
  algorithm?: VerityAlgorithm,
): Uint8Array {
  const exact = exactFormat(format);
  return writeTable(flattenDump(dump, options, exact, algorithm), exact);
}

/** Only Rust writes version 2. */
function exactFormat(format: ErofsFormat): ErofsFormat {
  return format.version === 2 ? { version: 2, dialect: "rust" } : format;
}

/** From here the parser's strings would only stand beside the image, at twice the memory. */
const LARGE_INODE_COUNT = 200_000;

function writeTable(table: InodeTable, format: ErofsFormat): Uint8Array {
  if (table.inodeCount > LARGE_INODE_COUNT) Bun.gc(true);
  const raised = format.raisedByWhiteouts === true && hasWhiteout(table, table.inodeCount);
  const arrangement = arrangeImage(table, raised ? { ...format, version: 1 } : format);
  const state = createLayoutState(arrangement);
  const counting = createCountingSink();
  emitImage(state, counting);
  const sink = createBufferSink(counting.position);
  emitImage(state, sink);
  return sink.bytes;
}
