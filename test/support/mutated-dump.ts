// Seeded damage to dumps: odd numbers, escapes, missing fields, repeated and exchanged lines. For asking
// two parsers whether they take the same ones and see the same in them.
//
// Left out is what docs/decisions/0006 lists as taken by C and refused by us.

import type { Random } from "./random-dump.ts";

const NUMBERS = [
  "0",
  "1",
  "-1",
  "+5",
  "\t8",
  "",
  "-",
  "4294967295",
  "4294967297",
  "0x10",
  "1.5",
  "1e3",
];
const SIZES = ["0", "1", "+5", "", "-", "x", "00012", "1.5", "9007199254740993"];
const MODES = [
  ["100644", "40755", "120777", "20644", "60644", "10644", "140644", "0100644", "+100644"],
  ["@40755", "@", "@0", "@644", "644", "0", "170000", "100648"],
  ["200000", "1100644", "20100644", "1777777777777777100644"],
].flat();
const TIMES = ["0.0", "1.5", "-5.3", "1", "1.", ".5", "1.2.3", "-1.-1", "0.4294967296", "", "-"];
const TEXTS = [
  [
    "-",
    "",
    "\\x2d",
    "a/b",
    "/a",
    "//a",
    "/a/",
    "\\x00",
    "a\\x00b",
    "é",
    "=",
    "a=b",
    ".",
    "..",
    "/..",
  ],
  ["\\x", "\\x4", "\\xZZ", "\\q", "\\", "x".repeat(255), "x".repeat(256), "x".repeat(4096)],
].flat();
const XATTRS = [
  ["user.a=b", "user.a", "=x", "", "user.a=", "a\\x3db=c", "user.\\x00=1", "user.a=\\x3d=-"],
  ["trusted.overlay.opaque=y", "system.posix_acl_access=x", "security.selinux=a\\x00b"],
  [`user.${"k".repeat(250)}=1`, `user.${"k".repeat(251)}=1`],
].flat();

/** One or two changes to `text`, a dump as byte string. */
export function mutateDump(random: Random, text: string): string {
  const lines = text.split("\n");
  const count = 1 + random.below(2);
  for (let i = 0; i < count; i++) mutateLine(random, lines, random.below(lines.length - 1));
  const mutated = lines.join("\n");
  return random.chance(5) ? mutated.replace(/\n$/, "") : mutated;
}

function mutateLine(random: Random, lines: string[], at: number): void {
  const line = lines[at] ?? "";
  const kind = random.below(13);
  if (kind === 0) lines.splice(at, 0, line);
  else if (kind === 1 && at > 0) lines.splice(at, 1);
  else if (kind === 2) {
    const other = random.below(lines.length - 1);
    [lines[at], lines[other]] = [lines[other]!, line];
  } else if (kind === 3) lines[at] = line + random.pick(["\r", "\0", "  "]);
  else if (kind === 4) {
    const place = random.below(line.split(" ", 3).join(" ").length + 1);
    const char = String.fromCharCode(random.below(256));
    lines[at] = line.slice(0, place) + char + line.slice(place + random.below(2));
  } else lines[at] = mutateField(random, line.split(" "), kind).join(" ");
}

function mutateField(random: Random, fields: readonly string[], kind: number): string[] {
  const changed = [...fields];
  const mode = fields[2] ?? "";
  const isLink = mode.startsWith("@");
  if (kind === 5) changed[1] = random.pick(SIZES);
  else if (kind === 6) changed[2] = random.pick(MODES);
  else if (kind === 7) changed[3] = random.pick(NUMBERS);
  else if (kind === 8) changed[7] = random.pick(TIMES);
  else if (kind === 9 && !isLink) changed[8] = random.pick(TEXTS);
  else if (kind === 10) changed[9] = random.pick(TEXTS);
  else if (kind === 11) changed.push(random.pick(XATTRS));
  else if (!isLink && !/^10\d{4}$/.test(mode)) {
    changed.length = Math.min(changed.length, 8 + random.below(4));
  }
  return changed;
}
