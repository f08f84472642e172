// Reading from slow media (sticks, network file systems) on another thread, so that nothing else has to wait.

import { read } from "node:fs";
import { promisify } from "node:util";
import type { Fd } from "../../shared/sys/fd.ts";

const readAsync = promisify(read) as unknown as (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ readonly bytesRead: number }>;

/** Fills `buffer` from `offset` on; fewer bytes only at the end of the file. Errors are those of node:fs. */
export async function readAt(fd: Fd, buffer: Uint8Array, offset: number): Promise<number> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await readAsync(
      fd.number,
      buffer,
      length,
      buffer.length - length,
      offset + length,
    );
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return length;
}
