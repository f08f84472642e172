// A splitstream taken apart and put together again, so that the fuzzer can change what is inside the
// zstd frames and still have whole frames and true ranges.

import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import {
  HEADER_SIZE_BYTES,
  INFO_SIZE_BYTES,
  MAGIC,
  OldSplitStreamHeader,
  SplitStreamHeader,
  SplitStreamInfo,
} from "../../shared/format/splitstream/format.ts";
import type { Random } from "../support/random-dump.ts";
import { join, pickInteger, putInteger } from "./mutate.ts";

export interface SplitStreamParts {
  algorithm: number;
  isOld: boolean;
  contentType: bigint;
  /** Packed digests. */
  streamRefs: Uint8Array;
  objectRefs: Uint8Array;
  /** Not compressed. */
  namedRefs: Uint8Array;
  stream: Uint8Array;
  streamSize: number;
}

/** More than the target plays and than the reader takes for names. */
const MAX_PART_BYTES = 4 << 20;

/** Null when the file is too damaged to take apart. */
export function takeApart(file: Uint8Array): SplitStreamParts | null {
  try {
    const isOld = Buffer.from(file.subarray(0, MAGIC.length)).toString("latin1") !== MAGIC;
    const header = (isOld ? OldSplitStreamHeader : SplitStreamHeader).decode(file);
    const info = SplitStreamInfo.decode(file.subarray(header.infoStart, header.infoEnd));
    const decompress = (start: number, end: number) =>
      zstdDecompressSync(file.subarray(start, end), { maxOutputLength: MAX_PART_BYTES });
    return {
      algorithm: header.algorithm,
      isOld,
      contentType: info.contentType,
      streamRefs: file.slice(info.streamRefsStart, info.streamRefsEnd),
      objectRefs: file.slice(info.objectRefsStart, info.objectRefsEnd),
      namedRefs: Uint8Array.from(decompress(info.namedRefsStart, info.namedRefsEnd)),
      stream: Uint8Array.from(decompress(info.streamStart, info.streamEnd)),
      streamSize: info.streamSize,
    };
  } catch {
    return null;
  }
}

export function putTogether(parts: SplitStreamParts): Uint8Array {
  const named = zstdCompressSync(parts.namedRefs);
  const stream = zstdCompressSync(parts.stream);
  const infoEnd = HEADER_SIZE_BYTES + INFO_SIZE_BYTES;
  const objectRefsStart = infoEnd + parts.streamRefs.length;
  const namedRefsStart = objectRefsStart + parts.objectRefs.length;
  const streamStart = namedRefsStart + named.length;
  const header = (parts.isOld ? OldSplitStreamHeader : SplitStreamHeader).encode({
    magic: Buffer.from(MAGIC, "latin1"),
    algorithm: parts.algorithm,
    infoStart: HEADER_SIZE_BYTES,
    infoEnd,
  });
  const info = SplitStreamInfo.encode({
    streamRefsStart: infoEnd,
    streamRefsEnd: objectRefsStart,
    objectRefsStart,
    objectRefsEnd: namedRefsStart,
    namedRefsStart,
    namedRefsEnd: streamStart,
    streamStart,
    streamEnd: streamStart + stream.length,
    contentType: parts.contentType,
    streamSize: Math.min(parts.streamSize, Number.MAX_SAFE_INTEGER),
  });
  return join(header, info, parts.streamRefs, parts.objectRefs, named, stream);
}

/** Changes a chunk, a name, a reference or the stated size. */
export function mutateSplitStream(file: Uint8Array, random: Random): Uint8Array | null {
  const parts = takeApart(file);
  if (parts === null) return null;
  switch (random.below(8)) {
    case 0:
      parts.streamRefs = changePart(parts.streamRefs, random);
      break;
    case 1:
      parts.objectRefs = changePart(parts.objectRefs, random);
      break;
    case 2:
      parts.namedRefs = changeName(parts.namedRefs, random);
      break;
    case 3:
      parts.algorithm = random.below(4);
      break;
    case 4:
      parts.isOld = !parts.isOld;
      break;
    case 5:
      parts.streamSize = Math.max(0, parts.streamSize + random.below(33) - 16);
      break;
    default:
      parts.stream = changeChunk(parts.stream, random);
      if (random.chance(70)) parts.streamSize = measureStream(parts);
  }
  return putTogether(parts);
}

/** Digests get longer, shorter or repeat. */
function changePart(part: Uint8Array, random: Random): Uint8Array {
  const at = random.below(part.length + 1);
  if (random.chance(30)) return part.subarray(0, at);
  const piece = new Uint8Array(random.pick([1, 32, 64])).fill(random.below(256));
  return join(part.subarray(0, at), piece, part.subarray(at));
}

function changeName(names: Uint8Array, random: Random): Uint8Array {
  const word = random.pick([
    "0:",
    "1:a\0",
    ":",
    "\0",
    "\0\0",
    "00:x\0",
    "999999999:",
    "0:a:b\0",
    "\xff",
  ]);
  const at = random.below(names.length + 1);
  const keep = random.chance(50) ? at : Math.min(names.length, at + 1);
  return join(names.subarray(0, at), Buffer.from(word, "latin1"), names.subarray(keep));
}

function changeChunk(stream: Uint8Array, random: Random): Uint8Array {
  const starts = listChunks(stream);
  const at = starts.length === 0 ? 0 : random.pick(starts);
  const chunk = new Uint8Array(8);
  switch (random.below(4)) {
    case 0:
      putInteger(stream, at, 8, random.chance(50) ? -pickInteger(random) : pickInteger(random));
      return stream;
    case 1:
      putInteger(chunk, 0, 8, BigInt(random.below(3)));
      return join(stream.subarray(0, at), chunk, stream.subarray(at));
    case 2: {
      const length = 1 + random.below(random.pick([4, 100, 3000]));
      putInteger(chunk, 0, 8, BigInt(-length));
      const literal = new Uint8Array(length).fill(random.below(256));
      return join(stream.subarray(0, at), chunk, literal, stream.subarray(at));
    }
    default:
      return random.chance(50) ? stream.subarray(0, at) : stream.subarray(at);
  }
}

function listChunks(stream: Uint8Array): readonly number[] {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  const starts: number[] = [];
  for (let at = 0; at + 8 <= stream.length; ) {
    starts.push(at);
    const value = Number(view.getBigInt64(at, true));
    at += 8 + Math.max(0, -value);
  }
  return starts;
}

/** What the target's objects and the literals add up to. */
function measureStream({ stream, objectRefs, algorithm }: SplitStreamParts): number {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  let total = 0;
  for (const at of listChunks(stream)) {
    const value = Number(view.getBigInt64(at, true));
    total += value < 0 ? -value : objectSize(objectRefs[value * (algorithm === 2 ? 64 : 32)] ?? 0);
  }
  return total;
}

/** Objects have the size their digest's first byte says. */
export function objectSize(firstByte: number): number {
  return 65 + firstByte;
}
