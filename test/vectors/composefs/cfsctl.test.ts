// The Rust side of docs/decisions/0006 against digests that composefs-rs' own program printed (README.md).

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { writeErofs } from "../../../shared/format/erofs/writer.ts";
import { parseDump } from "../../../shared/format/tree/dump.ts";
import { computeVerityDigest } from "../../../shared/format/verity/digest.ts";
import { writeErofsFromDump } from "../../support/dump-image.ts";
import digests from "./cfsctl.json" with { type: "json" };

/** Refused there because its payload is no object's path; here a payload may be anything. */
const REFUSED_THERE_ONLY = ["007-external-no-digest.dump"];

const cases = Object.entries(digests as Record<string, readonly string[] | null>).filter(
  ([name]) => !REFUSED_THERE_ONLY.includes(name),
);

test.each(cases)("%s", (name, expected) => {
  const text = readFileSync(join(import.meta.dirname, "dumps", name));
  const options = { dialect: "rust" } as const;
  const make = () =>
    ([0, 1] as const).flatMap((version) => {
      const format = { version, dialect: "rust" } as const;
      const images = [
        writeErofs(parseDump(text, options), format),
        writeErofsFromDump(text, options, format),
      ];
      return images.map((image) => computeVerityDigest(image, "sha256"));
    });
  if (expected === null) expect(make).toThrow();
  else expect(make()).toEqual([expected[0], expected[0], expected[1], expected[1]]);
});

test("there are as many as there were", () => {
  expect(cases.filter(([, expected]) => expected !== null)).toHaveLength(49);
});
