// Fuzz target: what an initramfs is unpacked from: cpio archives one after the other. Read in pieces of different sizes they must be
// the same, and archives that are written again must be read as the same files.

import { type CpioEntry, CpioReader } from "../../../shared/format/cpio/reader.ts";
import { writeCpio } from "../../../shared/format/cpio/writer.ts";
import { S_IFMT, S_IFREG } from "../../../shared/format/tree/node.ts";
import { checkEqual, checkSameBytes, type FuzzTarget } from "../target.ts";

interface Found {
  readonly entry: CpioEntry;
  readonly bytes: Uint8Array;
}

const MAX_KEPT_BYTES = 256;

/** Small files with their contents, and all entries, in order. */
function readAll(input: Uint8Array, pieceBytes: number) {
  const files: Found[] = [];
  const entries: string[] = [];
  const reader = new CpioReader({
    wants: (entry) => {
      const line = JSON.stringify(entry);
      if (entries.at(-1) !== line) entries.push(line);
      return entry.sizeBytes <= MAX_KEPT_BYTES;
    },
    content: (entry, bytes) => void files.push({ entry, bytes: bytes.slice() }),
  });
  for (let at = 0; at < input.length && reader.foreign === null; at += pieceBytes) {
    reader.write(input.subarray(at, at + pieceBytes));
  }
  const isForeign = reader.foreign !== null;
  if (!isForeign) reader.finish();
  return { files, entries, isForeign };
}

const file = (path: string, text: string) => ({
  path,
  mode: 0o644,
  sizeBytes: text.length,
  content: [Buffer.from(text)],
});

export const target: FuzzTarget = {
  *seeds() {
    const archives = [
      [],
      [file("init", "x")],
      [
        file("usr/lib/bootc/prepare-root", "p".repeat(70)),
        file("usr/lib/bootc/trust/keys.d/a.pub", ""),
      ],
    ].map((files) => Buffer.concat([...writeCpio(files)]));
    yield* archives;
    yield Buffer.concat([archives[1]!, Buffer.alloc(512), archives[2]!, Buffer.alloc(3)]);
    yield Buffer.concat([archives[1]!, Buffer.from([0x1f, 0x8b, 8, 0])]);
    yield Buffer.concat([archives[2]!, Buffer.from([0x28, 0xb5, 0x2f, 0xfd])]);
  },
  check(input) {
    const whole = readAll(input, Math.max(1, input.length));
    const pieces = readAll(input, 7);
    checkEqual(pieces.entries.join("\n"), whole.entries.join("\n"), "entries in pieces");
    checkEqual(pieces.isForeign, whole.isForeign, "what follows");
    for (const [index, { bytes }] of whole.files.entries()) {
      checkSameBytes(pieces.files[index]!.bytes, bytes, "content in pieces");
    }
    const regular = whole.files.filter(
      ({ entry }) => (entry.mode & S_IFMT) === S_IFREG && !entry.path.includes("TRAILER!!!"),
    );
    const again = [
      ...writeCpio(regular.map(({ entry, bytes }) => ({ ...entry, content: [bytes] }))),
    ];
    const contents = readAll(Buffer.concat(again), 512).files;
    for (const [index, { bytes }] of regular.entries()) {
      checkSameBytes(contents[index]!.bytes, bytes, "content written again");
    }
    return true;
  },
  focus: /^shared\/format\/cpio\//,
  words: ["070701", "070702", "TRAILER!!!", "0000000B", "FFFFFFFF"],
  maxBytes: 4096,
};
