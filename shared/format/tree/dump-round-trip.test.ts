// Text and trees are two forms of one thing: what a dump says is still said after any number of trips,
// in both dialects, and makes the same image.

import { expect, test } from "vitest";
import { makeRandomDump } from "../../../test/support/random-dump.ts";
import { readErofs } from "../erofs/reader.ts";
import { writeErofs } from "../erofs/writer.ts";
import { parseDump } from "./dump.ts";
import { formatDump } from "./dump-format.ts";

const SEEDS = Array.from({ length: 15 }, (_, i) => 31_000 + i);

const bytesOf = (text: string) => Buffer.from(text, "latin1");

test.each(["c", "rust"] as const)("random dumps, %s", (dialect) => {
  const portable = dialect === "rust";
  for (const seed of SEEDS) {
    const given = bytesOf(makeRandomDump(seed, { maxEntries: 40, portable }));
    const tree = parseDump(given, { dialect });
    const text = [...formatDump(tree, { dialect })].join("");
    const again = parseDump(bytesOf(text), { dialect });
    expect([...formatDump(again, { dialect })].join("") === text, `seed ${seed}`).toBe(true);
    // C's are compared below.
    for (const version of portable ? ([0, 1] as const) : []) {
      const image = writeErofs(tree, { version, dialect });
      const other = writeErofs(again, { version, dialect });
      expect(Buffer.compare(image, other), `seed ${seed}, version ${version}`).toBe(0);
    }
  }
});

// The first trips may change something, as with C's tools: they do not give back the size of a device
// above 4 GiB, and show the marks that version 1 sets on directories of whiteouts. No later one may.
test("images say the same as the dumps they were made from", () => {
  for (const seed of SEEDS) {
    const format = { version: 1, dialect: "c" } as const;
    const toImage = (text: string) => writeErofs(parseDump(bytesOf(text)), format);
    const toText = (image: Uint8Array) =>
      [...formatDump(readErofs(image, { dialect: "c" }).root)].join("");
    const text = toText(toImage(toText(toImage(makeRandomDump(seed, { maxEntries: 40 })))));
    const image = toImage(text);
    expect(toText(image) === text, `seed ${seed}`).toBe(true);
    expect(Buffer.compare(toImage(toText(image)), image), `seed ${seed}`).toBe(0);
  }
});
