// Reads a whole tar archive with the reader under test.

import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import { bytesToByteString } from "../../shared/format/tree/node.ts";

export interface ReadMember extends TarEntry {
  readonly content: string;
}
interface ReadResult {
  readonly members: ReadMember[];
  /** Everything the sink got, in order: must equal the input. */
  readonly bytes: Buffer;
}

export function readTar(archive: Buffer, chunkBytes = archive.length): ReadResult {
  const members: ReadMember[] = [];
  const pieces: Buffer[] = [];
  let content = "";
  const reader = new TarReader({
    raw: (bytes) => pieces.push(Buffer.from(bytes)),
    entry: (entry) => {
      members.push({ ...entry, content: "" });
      content = "";
    },
    content: (bytes) => {
      pieces.push(Buffer.from(bytes));
      content += bytesToByteString(bytes);
    },
    contentEnd: () => members.push({ ...members.pop()!, content }),
  });
  for (let at = 0; at < archive.length; at += chunkBytes) {
    reader.write(archive.subarray(at, at + chunkBytes));
  }
  reader.finish();
  return { members, bytes: Buffer.concat(pieces) };
}
