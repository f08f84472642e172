// Which bytes of a zstd:chunked layer to fetch: those of the missing files, with neighbours joined to one
// request where what lies between them costs less than asking twice. Pure.

import type { ChunkedFile } from "../../shared/format/zstd-chunked/toc.ts";
import type { ByteRange } from "./resolved-image.ts";

/** One request, and the files whose compressed contents are in it, in order. */
export interface FileRange extends ByteRange {
  readonly files: readonly ChunkedFile[];
}

/** A request costs about this much: its header, and waiting, which others use. */
const GAP_BYTES = 16 << 10;
/** More requests than this are joined further. */
const MAX_REQUESTS = 512;

/** `files` in the layer's order, without overlaps. Equal contents are fetched once. */
export function joinRanges(files: readonly ChunkedFile[]): FileRange[] {
  const seen = new Set<string>();
  const distinct = files.filter(({ digest }) => !seen.has(digest) && seen.add(digest));
  for (let gapBytes = GAP_BYTES; ; gapBytes *= 4) {
    const ranges = joinNear(distinct, gapBytes);
    if (ranges.length <= MAX_REQUESTS) return ranges;
  }
}

function joinNear(files: readonly ChunkedFile[], gapBytes: number): FileRange[] {
  const ranges: { startByte: number; endByte: number; files: ChunkedFile[] }[] = [];
  for (const file of files) {
    const last = ranges.at(-1);
    if (last !== undefined && file.startByte - last.endByte <= gapBytes) {
      last.files.push(file);
      last.endByte = file.endByte;
    } else {
      ranges.push({ startByte: file.startByte, endByte: file.endByte, files: [file] });
    }
  }
  return ranges;
}
