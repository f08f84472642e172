// Writes EROFS images bit-exactly as C mkcomposefs and composefs-rs do (composefs.md section 2).
//
// A deployment's identity is the fs-verity digest of these bytes. The tree becomes records
// (flatten.ts), the records are put in order (arrange.ts), every position is found (image-plan.ts), and
// the image is written in one go (emit.ts).

import { createBufferSink, createStreamSink } from "../../bytes/sink.ts";
import type { DumpOptions } from "../tree/dump-field.ts";
import type { DirectoryNode } from "../tree/node.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
import { arrangeImage } from "./arrange.ts";
import { emitImage } from "./emit.ts";
import { flattenTree } from "./flatten.ts";
import { flattenDump } from "./flatten-dump.ts";
import type { ErofsFormat } from "./format.ts";
import { type ImagePlan, planImage } from "./image-plan.ts";
import type { InodeBuilder } from "./inode-builder.ts";
import type { InodeTable } from "./inode-table.ts";
import { BLOCK_BYTES } from "./layout.ts";

/** What the format cannot hold has been refused by now; only writing itself can fail. */
export interface PlannedImage {
  readonly sizeBytes: number;
  /** Gives the image in pieces, which are valid during the call. */
  readonly write: (put: (piece: Uint8Array) => void) => void;
}

/** Larger than an inode with all its xattrs (256 KiB) and the page that stays behind. */
const WINDOW_BYTES = 1 << 19;

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
  return writeWhole(planTable(flattenTree(root, exact, algorithm), exact));
}

/** As `writeErofs`, for an image that need not be in memory as a whole. */
export function planErofs(
  root: DirectoryNode,
  format: ErofsFormat,
  algorithm?: VerityAlgorithm,
): PlannedImage {
  const exact = exactFormat(format);
  return plannedImage(planTable(flattenTree(root, exact, algorithm), exact));
}

/** The image of a dump, given whole or in pieces: the same bytes as by way of a tree, for less. */
export function planErofsFromDump(
  dump: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions,
  format: ErofsFormat,
  algorithm?: VerityAlgorithm,
): PlannedImage {
  const exact = exactFormat(format);
  return plannedImage(planTable(flattenDump(dump, options, exact, algorithm), exact));
}

/** The image of records made entry by entry (entry-records.ts) with the same format. */
export function planErofsFromRecords(records: InodeBuilder, format: ErofsFormat): PlannedImage {
  return plannedImage(planTable(records.table, exactFormat(format)));
}

/** Only Rust writes version 2. */
function exactFormat(format: ErofsFormat): ErofsFormat {
  return format.version === 2 ? { version: 2, dialect: "rust" } : format;
}

function planTable(table: InodeTable, format: ErofsFormat): ImagePlan {
  const raised = format.raisedByWhiteouts === true && table.hasWhiteouts;
  return planImage(arrangeImage(table, raised ? { ...format, version: 1 } : format));
}

function writeWhole(plan: ImagePlan): Uint8Array {
  const sink = createBufferSink(plan.blocks * BLOCK_BYTES);
  emitImage(plan, sink);
  return sink.bytes;
}

function plannedImage(plan: ImagePlan): PlannedImage {
  const sizeBytes = plan.blocks * BLOCK_BYTES;
  return {
    sizeBytes,
    write: (put) => emitImage(plan, createStreamSink(Math.min(WINDOW_BYTES, sizeBytes), put)),
  };
}
