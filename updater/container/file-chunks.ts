// A file in pieces, which may be kept.

import { O } from "../../shared/sys/constants.ts";
import { openat, read } from "../../shared/sys/file.ts";

const CHUNK_BYTES = 1 << 20;

export function* readFileChunks(path: string): Generator<Uint8Array> {
  using fd = openat(null, path, O.RDONLY);
  for (;;) {
    const buffer = new Uint8Array(CHUNK_BYTES);
    const count = read(fd, buffer);
    if (count === 0) return;
    yield buffer.subarray(0, count);
  }
}
