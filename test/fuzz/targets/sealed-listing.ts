// Fuzz target: the listing of a sealed tree against that of the image here. Equal ones have no difference, however
// they come in pieces; of others the two lines shown are lines of theirs, printable and cut.

import { findDumpDifference } from "../../../shared/format/tree/dump-difference.ts";
import { mutateDump } from "../dump-lines.ts";
import { checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const OWN = [
  "/ 0 40755 4 0 0 0 0.0 - - -",
  "/etc 0 40755 2 0 0 0 0.0 - - -",
  "/etc/a\\x20b 3 100644 1 0 0 0 0.0 - abc -",
  "/usr 0 40755 3 0 0 0 0.0 - - -",
  "/usr/bin 0 40755 2 0 0 0 0.0 - - -",
  "/usr/bin/\\xc3\\xa4 0 120777 1 0 0 0 0.0 target - -",
];

export const target: FuzzTarget = {
  focus: /^shared\/format\/tree\/dump-difference\.ts/,
  maxBytes: 4096,
  words: ["/", " ", "\n", "\\x", "\\n", "\\\\", "/etc", "/usr/bin", " - - -"],
  mutate: mutateDump,
  seeds: () => [
    Buffer.from(`${OWN.join("\n")}\n`),
    Buffer.from(OWN.slice(0, 3).join("\n")),
    Buffer.from([...OWN.slice(0, 2), "/etc/hosts 0 1", ...OWN.slice(3)].join("\n")),
    Buffer.from([...OWN, "/var 0 \u001b[2J"].join("\n")),
    Buffer.from(`/ 0 ${"x".repeat(500)}`),
  ],
  check(input) {
    const own = OWN.map((line) => `${line}\n`);
    const found = findDumpDifference([input], own);
    const pieces = Array.from(input, (byte) => Uint8Array.of(byte));
    checkEqual(JSON.stringify(findDumpDifference(pieces, own)), JSON.stringify(found), "In pieces");
    const text = Buffer.from(input).toString("latin1");
    const isSame = text.replace(/\n$/, "") === OWN.join("\n");
    checkEqual(found === null, isSame, "A difference");
    if (found === null) return true;
    if (found.before === null && found.after === null) throw new PropertyError("No line is shown");
    for (const line of [found.before, found.after, found.path]) {
      if (line !== null && /[\u0000-\u001f\u007f]/.test(line)) {
        throw new PropertyError(`"${line}" is not printable`);
      }
    }
    if (found.after !== null) checkEqual(OWN.includes(found.after), true, "The line here");
    checkEqual((found.before ?? "").length <= 301, true, "The length of what is shown");
    return true;
  },
};
