// Fuzz target: GVariants of any type; the input is a type, a line break, and the value. What is accepted is in
// normal form, so writing it gives the same bytes, and it can be printed.

import { decodeGVariant } from "../../../shared/format/gvariant/decode.ts";
import { encodeGVariant } from "../../../shared/format/gvariant/encode.ts";
import { printGVariant } from "../../../shared/format/gvariant/print.ts";
import { createRandom } from "../../support/random-dump.ts";
import { makeRandomType, makeRandomValue } from "../../support/random-gvariant.ts";
import { checkSameBytes, type FuzzTarget } from "../target.ts";

const LINE_BREAK = 10;

export const target: FuzzTarget = {
  focus: /^shared\/format\/gvariant\//,
  maxBytes: 4096,
  words: ["a{sv}", "(a(say)a(sayay))", "aay", "mas", "v", "(", ")", "{", "}", "\n", "\0", "\xff"],
  *seeds() {
    for (let seed = 0; seed < 120; seed++) {
      const random = createRandom(seed);
      const type = makeRandomType(random);
      const value = encodeGVariant(type, makeRandomValue(random, type));
      if (value.length < 1024) yield Buffer.concat([Buffer.from(`${type}\n`), value]);
    }
  },
  check(input) {
    const end = input.indexOf(LINE_BREAK);
    const type = Buffer.from(input.subarray(0, Math.max(end, 0))).toString("latin1");
    const bytes = input.slice(end + 1);
    const value = decodeGVariant(type, bytes);
    const text = printGVariant(type, value);
    // JavaScript has one NaN, the format has many.
    if (!text.includes("nan")) checkSameBytes(encodeGVariant(type, value), bytes, "Written again");
    return true;
  },
};
