// Where a zstd:chunked layer keeps its table of contents and its tar-split data: annotations of the layer's
// descriptor, which are as trustworthy as the manifest that has them. Positions are of the bytes inside the
// skippable frames, so their 8-byte headers lie just before.
//
// Source: containers/storage, `pkg/chunked`; the same numbers stand in the last 72 bytes of the layer (its
// footer), which are not read: nothing vouches for them, and it would take a request of its own.

import { FormatError } from "../../error.ts";
import { digestSchema } from "../oci/digest.ts";
import type { Descriptor } from "../oci/manifest.ts";

/** Compressed bytes [startByte, endByte) of the layer that decompress to `sizeBytes`. */
export interface ChunkedSection {
  readonly startByte: number;
  readonly endByte: number;
  readonly sizeBytes: number;
}

export interface ChunkedPositions {
  readonly toc: ChunkedSection;
  /** Of the compressed table of contents. */
  readonly tocDigest: string;
  readonly tarSplit: ChunkedSection;
}

const PREFIX = "io.github.containers.zstd-chunked.";
const CHECKSUM = `${PREFIX}manifest-checksum`;
const TOC_POSITION = `${PREFIX}manifest-position`;
const TAR_SPLIT_POSITION = `${PREFIX}tarsplit-position`;
/** The only type of table there is: that of CRFS and estargz. */
const CRFS_TYPE = 1;
/** Those who make such layers refuse larger tables themselves. */
const MAX_TOC_BYTES = 50 << 20;
/** Headers of a million files; decompressed as a stream. */
const MAX_TAR_SPLIT_BYTES = 2 ** 30;
const MAX_COMPRESSED_BYTES = 64 << 20;

/**
 * Null when the layer is not zstd:chunked, or without tar-split data, so that its tar cannot be made from
 * the files. FormatError when the annotations make no sense.
 */
export function readChunkedPositions(layer: Descriptor): ChunkedPositions | null {
  const tocDigest = layer.annotations?.[CHECKSUM];
  const tocPosition = layer.annotations?.[TOC_POSITION];
  const tarSplitPosition = layer.annotations?.[TAR_SPLIT_POSITION];
  if (tocDigest === undefined || tocPosition === undefined || tarSplitPosition === undefined) {
    return null;
  }
  if (!digestSchema.safeParse(tocDigest).success) throw bad(CHECKSUM, tocDigest);
  const [toc, type] = parsePosition(tocPosition, TOC_POSITION, layer.size, MAX_TOC_BYTES);
  if (type !== CRFS_TYPE) throw bad(TOC_POSITION, tocPosition);
  const [tarSplit] = parsePosition(
    tarSplitPosition,
    TAR_SPLIT_POSITION,
    layer.size,
    MAX_TAR_SPLIT_BYTES,
  );
  return { toc, tocDigest, tarSplit };
}

/** "<offset>:<length>:<uncompressed length>[:<type>]", decimal. */
function parsePosition(
  text: string,
  key: string,
  layerBytes: number,
  limitBytes: number,
): readonly [section: ChunkedSection, type: number | null] {
  const match = /^(\d{1,15}):(\d{1,15}):(\d{1,15})(?::(\d{1,5}))?$/.exec(text);
  if (match === null) throw bad(key, text);
  const [startByte, length, sizeBytes] = match.slice(1, 4).map(Number) as [number, number, number];
  if (length > MAX_COMPRESSED_BYTES || sizeBytes > limitBytes) {
    throw new FormatError("limit", `Annotation "${key}: ${text}" is for more than is accepted`);
  }
  const endByte = startByte + length;
  if (length === 0 || endByte > layerBytes) throw bad(key, text);
  return [{ startByte, endByte, sizeBytes }, match[4] === undefined ? null : Number(match[4])];
}

function bad(key: string, text: string): FormatError {
  return new FormatError("bad-value", `Annotation "${key}: ${text}" of a layer makes no sense`, {
    format: "zstd-chunked",
  });
}
