import { expect, test } from "vitest";
import { writeErofsFromDump } from "../../../test/support/dump-image.ts";
import { parseDump } from "../tree/dump.ts";
import { formatDump } from "../tree/dump-format.ts";
import { computeVerityDigest } from "../verity/digest.ts";
import { isObjectPath } from "./digest-table.ts";
import { readErofs } from "./reader.ts";
import { writeErofs } from "./writer.ts";

const A = "a".repeat(64);
const B = "b".repeat(64);
const pathOf = (digest: string) => `${digest.slice(0, 2)}/${digest.slice(2)}`;
const file = (name: string, payload: string, digest: string, xattrs = "") =>
  `/${name} 9 100644 1 0 0 0 0.0 ${payload} - ${digest}${xattrs}\n`;

/** Redirects to one's own object, to that of another, in other spellings; and names between the two. */
const LINES = [
  file("a", pathOf(A), A),
  file("b", pathOf(A), B),
  file("c", pathOf(B), "-"),
  file("d", pathOf(B), B),
  file("e", pathOf(A).toUpperCase(), A.toUpperCase()),
  file("f", "other", A),
  file("g", "other", B, " trusted.overlay.lower=1"),
  file("h", pathOf(A), A, " user.z=1 security.a=2"),
  file("i", "-", "-", " trusted.overlay.metacopy=x"),
].join("");
const DUMP = Buffer.from(`/ 0 40755 2 0 0 0 0.0 - - -\n${LINES}`);

// What mkcomposefs 1.0.8 prints for this dump.
test.each([
  [0, "116e390969b5956dfae5b3fa36e67726c193c85f29f48e1e36d71899ee8cbfb4"],
  [1, "5fb88bd464dfc7c0780a1622e244c41801d9b33448c653be92804a1ffacd77f5"],
] as const)("equal pairs are shared however they came about, version %i", (version, digest) => {
  const image = writeErofsFromDump(DUMP, {}, { version, dialect: "c" });
  expect(computeVerityDigest(image, "sha256")).toBe(digest);
});

test.each([
  { version: 1, dialect: "c" },
  { version: 1, dialect: "rust" },
  { version: 2, dialect: "rust" },
] as const)("digests of both lengths in one image, %j", (format) => {
  const long = "c".repeat(128);
  const text = `${LINES}${file("j", pathOf(long), long)}${file("k", pathOf(long), A)}`;
  const dump = Buffer.concat([DUMP, Buffer.from(text.slice(LINES.length))]);
  const image = writeErofsFromDump(dump, {}, format);
  expect(Buffer.compare(writeErofs(parseDump(dump), format), image)).toBe(0);
  const lines = [...formatDump(readErofs(image).root)];
  expect(lines.find((line) => line.startsWith("/j "))).toContain(`${pathOf(long)} - ${long}`);
  expect(Buffer.compare(writeErofs(readErofs(image).root, format), image)).toBe(0);
});

test.each([
  [pathOf(A), true],
  [pathOf(A).toUpperCase(), false],
  [`${pathOf(A).slice(0, -1)}b`, false],
  [`ab${pathOf(A).slice(2)}`, false],
  [A, false],
  [`${pathOf(A)}a`, false],
  [pathOf(A).replace("/", "a"), false],
  ["", false],
])("%j is the path of aaaa…: %s", (path, expected) => {
  const bytes = Buffer.from(`x${path}y`);
  const payload = { bytes, start: 1, end: bytes.length - 1 };
  expect(isObjectPath(payload, Buffer.from(A, "hex"))).toBe(expected);
});
