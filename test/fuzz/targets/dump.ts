// Fuzz target: the dump parser in all dialects, and the writers behind it. A tree that was read can be
// printed and read again; images made by way of a tree and without one have the same bytes.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ErofsFormat } from "../../../shared/format/erofs/format.ts";
import { readErofs } from "../../../shared/format/erofs/reader.ts";
import { writeErofs } from "../../../shared/format/erofs/writer.ts";
import { parseDump } from "../../../shared/format/tree/dump.ts";
import type { DumpOptions } from "../../../shared/format/tree/dump-field.ts";
import type { DirectoryNode } from "../../../shared/format/tree/node.ts";
import { writeErofsFromDump } from "../../support/dump-image.ts";
import { makeRandomDump } from "../../support/random-dump.ts";
import { mutateDump } from "../dump-lines.ts";
import { printTree } from "../print-tree.ts";
import { attempt, checkEqual, checkSameBytes, type FuzzTarget, PropertyError } from "../target.ts";

const OPTIONS: readonly DumpOptions[] = [
  { dialect: "c" },
  { dialect: "c", strict: true },
  { dialect: "rust" },
];

export const target: FuzzTarget = {
  focus: /^shared\/format\/tree\//,
  maxBytes: 8192,
  mutate: mutateDump,
  // Each input is parsed and written several times over; images have 256 entries of their own.
  stepsPerByte: 1500,
  memoryPerByte: 4096,
  words: [
    ..." |\n|-|@|/|//|/..|/.|\\x|\\x00|\\x2f|\\n|\\\\|0.0|.|1.|-1.0|@100644|@120777|40755".split(
      "|",
    ),
    ..." user.a=x| trusted.overlay.opaque=y| trusted.overlay.metacopy=| security.selinux=l".split(
      "|",
    ),
    " 0 20644 1 0 0 0 0.0 - - -\n",
    "/ 0 40755 2 0 0 0 0.0 - - -\n",
    "a".repeat(256),
    "ab".repeat(32),
  ],
  *seeds(root) {
    for (let seed = 0; seed < 40; seed++) {
      const options = { maxEntries: 12, portable: seed % 2 === 0 };
      yield Buffer.from(makeRandomDump(seed, options), "latin1");
    }
    const folder = join(root, "test/vectors/composefs/dumps");
    for (const name of readdirSync(folder).sort()) yield readFileSync(join(folder, name));
  },
  check(input) {
    const withImage = input.length % OPTIONS.length;
    const accepted = OPTIONS.map((options, i) => {
      const root = checkTree(input, options);
      // To save time.
      if (i === withImage) checkImage(input, options, root);
      return root !== null;
    });
    return accepted.includes(true);
  },
};

function describe({ dialect, strict }: DumpOptions): string {
  return `(${dialect}${strict === true ? ", strict" : ""})`;
}

/** Null when the dump is refused. */
function checkTree(input: Uint8Array, options: DumpOptions): DirectoryNode | null {
  const { dialect = "c" } = options;
  const what = describe(options);
  const parsed = attempt(() => parseDump(input, options));
  const inPieces = attempt(() => parseDump(pieces(input), options));
  if ("error" in parsed) {
    if (!("error" in inPieces)) throw new PropertyError(`Accepted in pieces only ${what}`);
    return null;
  }
  if ("error" in inPieces) {
    throw new PropertyError(`Refused in pieces only ${what}: ${inPieces.error}`);
  }
  const text = printTree(parsed.value, dialect);
  checkEqual(printTree(inPieces.value, dialect), text, `Dump read in pieces ${what}`);
  const again = attempt(() => parseDump(Buffer.from(text, "latin1"), { dialect }));
  if ("error" in again) throw new PropertyError(`Printed dump is refused ${what}: ${again.error}`);
  checkEqual(printTree(again.value, dialect), text, `Dump printed again ${what}`);
  return parsed.value;
}

function checkImage(input: Uint8Array, options: DumpOptions, root: DirectoryNode | null): void {
  const { dialect = "c" } = options;
  const what = describe(options);
  const format: ErofsFormat = { version: pickVersion(input, dialect), dialect };
  const direct = attempt(() => writeErofsFromDump(input, options, format));
  if (root === null) {
    if (!("error" in direct)) throw new PropertyError(`Image of a refused dump ${what}`);
    return;
  }
  const written = attempt(() => writeErofs(root, format));
  if ("error" in written || "error" in direct) {
    checkEqual("error" in direct, "error" in written, `Refusal of the image ${what}`);
    return;
  }
  checkSameBytes(direct.value, written.value, `Image without a tree ${what}`);
  const read = attempt(() => readErofs(written.value, { dialect }));
  if ("error" in read) throw new PropertyError(`Image is refused ${what}: ${read.error.message}`);
}

function pickVersion(input: Uint8Array, dialect: "c" | "rust"): 0 | 1 | 2 {
  if (dialect === "rust" && input.length % 4 !== 0) return 2;
  return input.length % 2 === 0 ? 1 : 0;
}

/** Pieces of sizes that follow from the content, in memory that is used again. */
function* pieces(input: Uint8Array): Generator<Uint8Array> {
  const memory = new Uint8Array(300);
  for (let at = 0; at < input.length; ) {
    const piece = input.subarray(at, at + 1 + ((input[at]! * 7 + at) % 299));
    memory.set(piece);
    yield memory.subarray(0, piece.length);
    at += piece.length;
  }
}
