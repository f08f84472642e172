// Fetches the table of contents of a zstd:chunked layer and its tar-split data by ranges, before anything
// else of the layer. The table has the digest that the manifest promises, the tar-split data the one that
// the table promises (older tables promise none: then only diff_id, in the end, proves it).

import { zstdDecompressSync } from "node:zlib";
import { FormatError, IntegrityError } from "../../shared/error.ts";
import { computeDigest, splitDigest } from "../../shared/format/oci/digest.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import {
  type ChunkedPositions,
  type ChunkedSection,
  readChunkedPositions,
} from "../../shared/format/zstd-chunked/positions.ts";
import { type ChunkedFile, parseChunkedToc } from "../../shared/format/zstd-chunked/toc.ts";
import type { ByteSource } from "./blob.ts";
import { limitTarBytes } from "./layers.ts";
import type { ByteRange } from "./resolved-image.ts";

/** Bytes of one layer as the server has them, unverified. */
export type RangeOpener = (range: ByteRange, signal: AbortSignal) => ByteSource;

export interface ChunkedLayer {
  /** Regular files with content, in the order of the tar. */
  readonly files: readonly ChunkedFile[];
  /** Compressed. */
  readonly tarSplit: Uint8Array;
  /** What it decompresses to. */
  readonly tarSplitBytes: number;
  /** What was fetched to know this. */
  readonly fetchedBytes: number;
}

/** Sections this close to each other are fetched at once; usually there are 8 bytes between them. */
const MAX_GAP_BYTES = 4096;

/**
 * Null when the layer is not zstd:chunked. FormatError and IntegrityError when the table is not what was
 * promised; what `open` throws, also UnsupportedError when the server has no ranges.
 */
export async function fetchChunkedLayer(
  layer: Descriptor,
  open: (range: ByteRange) => ByteSource,
): Promise<ChunkedLayer | null> {
  const positions = readChunkedPositions(layer);
  if (positions === null) return null;
  const what = `Table of contents of layer ${layer.digest}`;
  const { toc, tarSplit, fetchedBytes } = await fetchSections(layer, positions, open);
  checkDigest(toc, positions.tocDigest, what);
  const json = decompressSection(toc, positions.toc, what);
  const { files, tarSplitDigest } = parseChunkedToc(json, positions.toc.startByte, what);
  checkSize(files, layer, what);
  if (tarSplitDigest !== null) checkDigest(tarSplit, tarSplitDigest, `${what}: tar-split data`);
  return { files, tarSplit, tarSplitBytes: positions.tarSplit.sizeBytes, fetchedBytes };
}

/** Sizes that no layer may have would lead to plans that nothing has room for. */
function checkSize(files: readonly ChunkedFile[], { size }: Descriptor, what: string): void {
  const totalBytes = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (totalBytes <= limitTarBytes(size)) return;
  throw new FormatError("limit", `${what} lists ${totalBytes} bytes of files`);
}

async function fetchSections(
  layer: Descriptor,
  { toc, tarSplit }: ChunkedPositions,
  open: (range: ByteRange) => ByteSource,
): Promise<{ toc: Uint8Array; tarSplit: Uint8Array; fetchedBytes: number }> {
  const gapBytes = tarSplit.startByte - toc.endByte;
  if (gapBytes >= 0 && gapBytes <= MAX_GAP_BYTES) {
    const range = { startByte: toc.startByte, endByte: tarSplit.endByte };
    const bytes = await readWhole(layer, open, range);
    const tocBytes = toc.endByte - toc.startByte;
    return {
      toc: bytes.subarray(0, tocBytes),
      tarSplit: bytes.subarray(tocBytes + gapBytes),
      fetchedBytes: bytes.length,
    };
  }
  const first = await readWhole(layer, open, toc);
  const second = await readWhole(layer, open, tarSplit);
  return { toc: first, tarSplit: second, fetchedBytes: first.length + second.length };
}

/** All of a range whose size is bounded by the caller. */
async function readWhole(
  layer: Descriptor,
  open: (range: ByteRange) => ByteSource,
  { startByte, endByte }: ByteRange,
): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(endByte - startByte);
  let fill = 0;
  for await (const chunk of open({ startByte, endByte })) {
    if (fill + chunk.length > bytes.length) throw sizeMismatch(layer);
    bytes.set(chunk, fill);
    fill += chunk.length;
  }
  if (fill < bytes.length) throw sizeMismatch(layer);
  return bytes;
}

function decompressSection(bytes: Uint8Array, section: ChunkedSection, what: string): Uint8Array {
  let content: Buffer;
  try {
    content = zstdDecompressSync(bytes, { maxOutputLength: section.sizeBytes });
  } catch (cause) {
    throw new FormatError("bad-value", `${what} is not valid zstd data`, {}, { cause });
  }
  if (content.length === section.sizeBytes) return content;
  throw new FormatError("truncated", `${what} is shorter than its annotation says`);
}

function checkDigest(bytes: Uint8Array, digest: string, what: string): void {
  const found = computeDigest(bytes, splitDigest(digest).algorithm);
  if (found === digest) return;
  throw new IntegrityError("digest-mismatch", `${what} has digest ${found}, not ${digest}`, {
    digest,
    found,
  });
}

function sizeMismatch({ digest }: Descriptor): IntegrityError {
  return new IntegrityError("size-mismatch", `A range of layer ${digest} came with another size`);
}
