import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import {
  formatSignedStatement,
  formatStatement,
  type ImageStatement,
  parseSignedStatement,
} from "./statement.ts";

const statement: ImageStatement = {
  digest: "ab".repeat(64),
  algorithm: "sha512-12",
  format: "erofs-v1",
  version: 42,
  expires: "2027-01-01T00:00:00Z",
};
const signature = (digit: string) => ({
  fingerprint: digit.repeat(64),
  signature: Buffer.alloc(64, Number.parseInt(digit, 16)),
});
const text = formatStatement(statement);
const document = formatSignedStatement(statement, [signature("1"), signature("2")]);
const line = (digit: string) => {
  const { fingerprint, signature: bytes } = signature(digit);
  return `signature: ${fingerprint} ${Buffer.from(bytes).toString("base64")}\n`;
};
const nine = [..."123456789"];

test("a statement is what the specification shows", () => {
  expect(text).toBe(
    `bootc-ts image statement 1\ndigest: ${"ab".repeat(64)}\nalgorithm: sha512-12\nformat: erofs-v1\nversion: 42\nexpires: 2027-01-01T00:00:00Z\n`,
  );
  expect(document).toBe(text + line("1") + line("2"));
});

test("a document is read back; the signed text is the statement alone", () => {
  expect(parseSignedStatement(Buffer.from(document), "x")).toEqual({
    statement,
    text,
    signatures: [signature("1"), signature("2")],
  });
});

test.each<[string, (document: string) => string, string]>([
  ["nothing", () => "", 'begins with ""'],
  ["another first line", (d) => d.replace("bootc-ts", "bootc"), "begins with"],
  ["the domain of another program", (d) => `untrusted comment: x\n${d}`, "begins with"],
  ["a byte order mark", (d) => `\ufeff${d}`, "begins with"],
  ["a white line before", (d) => `\n${d}`, "begins with"],
  ["a later version", (d) => d.replace("statement 1", "statement 2"), 'version "2"'],
  ["a version with a tail", (d) => d.replace("statement 1", "statement 1 "), 'version "1 "'],
  ["no LF after the domain", () => "bootc-ts image statement 1", "line 2 has to be"],
  ["CRLF", (d) => d.replaceAll("\n", "\r\n"), 'version "1\\r"'],
  ["CRLF in one line", (d) => d.replace("erofs-v1\n", "erofs-v1\r\n"), "format"],
  [
    "another order",
    (d) => d.replace(/(algorithm.*\n)(format.*\n)/, "$2$1"),
    'line 3 has to be "algorithm: ..."',
  ],
  ["a field twice", (d) => d.replace(/(version.*\n)/, "$1$1"), "line 6 does not belong"],
  ["the digest twice", (d) => d.replace(/(digest.*\n)/, "$1$1"), "line 3 has to be"],
  ["two expiries", (d) => d.replace(/(expires.*\n)/, "$1$1"), "line 7 does not belong"],
  ["a missing field", (d) => d.replace(/format.*\n/, ""), 'line 4 has to be "format: ..."'],
  ["an unknown field", (d) => d.replace("expires", "comment"), "line 6 does not belong"],
  ["a field after the signatures", (d) => `${d}version: 43\n`, "line 9 does not belong"],
  ["a comment", (d) => d.replace("format", "# x\nformat"), "line 4 has to be"],
  ["two spaces", (d) => d.replace("version: 42", "version:  42"), 'version " 42"'],
  ["a tab", (d) => d.replace("version: 42", "version:\t42"), "line 5 has to be"],
  ["trailing space", (d) => d.replace("version: 42", "version: 42 "), 'version "42 "'],
  ["capital letters", (d) => d.replace("digest: ab", "digest: AB"), "lower-case hex"],
  ["a short digest", (d) => d.replace("digest: abab", "digest: ab"), "lower-case hex"],
  ["an odd digest", (d) => d.replace("digest: ab", "digest: a"), "lower-case hex"],
  ["a path for a digest", (d) => d.replace(/digest: .*/, "digest: ../../x"), "lower-case hex"],
  [
    "an algorithm that the digest is too long for",
    (d) => d.replace("sha512-12", "sha256-12"),
    "not a digest of sha256-12",
  ],
  [
    "an algorithm that the digest is too short for",
    (d) => d.replace("ab".repeat(64), "ab".repeat(32)),
    "not a digest of sha512-12",
  ],
  ["an unknown algorithm", (d) => d.replace("sha512-12", "sha512-16"), "algorithm"],
  ["an inherited algorithm", (d) => d.replace("sha512-12", "toString"), "algorithm"],
  ["an unknown format", (d) => d.replace("erofs-v1", "erofs-v3"), "format"],
  ["version 0", (d) => d.replace(": 42", ": 0"), 'version "0"'],
  ["a leading zero", (d) => d.replace(": 42", ": 042"), 'version "042"'],
  ["a sign", (d) => d.replace(": 42", ": +42"), 'version "+42"'],
  ["a negative version", (d) => d.replace(": 42", ": -1"), 'version "-1"'],
  ["a fraction", (d) => d.replace(": 42", ": 42.0"), 'version "42.0"'],
  ["an exponent", (d) => d.replace(": 42", ": 4e2"), 'version "4e2"'],
  ["2^53", (d) => d.replace(": 42", ": 9007199254740992"), "from 1 to 2^53-1"],
  ["a huge version", (d) => d.replace(": 42", `: ${"9".repeat(400)}`), "from 1 to 2^53-1"],
  ["no version", (d) => d.replace(": 42", ": "), 'version ""'],
  ["30 February", (d) => d.replace("2027-01-01", "2027-02-30"), "not a time"],
  ["hour 24", (d) => d.replace("T00:", "T24:"), "not a time"],
  ["a leap second", (d) => d.replace("00:00Z", "59:60Z"), "not a time"],
  ["milliseconds", (d) => d.replace("00Z", "00.000Z"), "not a time"],
  ["a time zone", (d) => d.replace("00Z", "00+00:00"), "not a time"],
  ["a day without time", (d) => d.replace("T00:00:00Z", ""), "not a time"],
  ["year 12027", (d) => d.replace("2027", "+012027"), "not a time"],
  ["no signature", () => text, "no signature"],
  ["nine signatures", () => text + nine.map(line).join(""), "more than 8"],
  ["two signatures by one key", () => text + line("1") + line("1"), "same key"],
  ["a short signature", (d) => d.replace(/AQEB/, ""), "64 bytes"],
  ["signature in base64url", (d) => d.replace(/AgIC/, "-_-_"), "64 bytes"],
  ["signature without padding", (d) => d.replace("==", ""), "64 bytes"],
  ["a second spelling of base64", (d) => d.replace("AQ==", "AR=="), "64 bytes"],
  ["a fingerprint in capitals", () => text + line("a").toUpperCase(), "line 7 does not belong"],
  ["a short fingerprint", (d) => d.replace("1111 ", "111 "), "fingerprint"],
  ["two spaces before the signature", (d) => d.replace("1 A", "1  A"), "fingerprint"],
  ["a tail behind a signature", (d) => d.replace("==\n", "== x\n"), "fingerprint"],
  ["no LF at the end", (d) => d.slice(0, -1), "last line has no end"],
  ["a trailing LF", (d) => `${d}\n`, 'line 9 does not belong there: ""'],
  ["a trailing byte", (d) => `${d}x`, 'line 9 does not belong there: "x"'],
  ["a trailing NUL", (d) => `${d}\0`, 'line 9 does not belong there: "\\u0000"'],
  ["a document twice", (d) => d + d, "line 9 does not belong"],
  ["more than 8 KiB", (d) => d + "\n".repeat(8192), "larger than 8192"],
])("refuses %s", (_, change, message) => {
  const bytes = Buffer.from(change(document));
  expect(() => parseSignedStatement(bytes, "x.statement")).toThrow(FormatError);
  expect(() => parseSignedStatement(bytes, "x.statement")).toThrow(message);
  expect(() => parseSignedStatement(bytes, "x.statement")).toThrow('"x.statement"');
});

test.each<[string, Partial<ImageStatement>]>([
  ["a version that is no integer", { version: 1.5 }],
  ["NaN", { version: Number.NaN }],
  ["a version that is not safe", { version: 2 ** 53 }],
  ["a second line in a digest", { digest: `${"ab".repeat(63)}\nab` }],
  ["a second line in a time", { expires: "2027-01-01T00:00:00Z\nversion: 1" }],
])("writes no statement with %s", (_, change) => {
  expect(() => formatStatement({ ...statement, ...change })).toThrow(FormatError);
});

test("writes no document that it would not read", () => {
  expect(() => formatSignedStatement(statement, [])).toThrow("no signature");
  expect(() => formatSignedStatement(statement, nine.map(signature))).toThrow("more than 8");
  expect(() => formatSignedStatement(statement, [signature("1"), signature("1")])).toThrow("same");
  const short = { fingerprint: "1".repeat(64), signature: new Uint8Array(63) };
  expect(() => formatSignedStatement(statement, [short])).toThrow("64 bytes");
});

test("what foreign text does to a terminal does not reach messages", () => {
  const bytes = Buffer.from(document.replace("erofs-v1", "\u001b]0;x\u0007"));
  try {
    parseSignedStatement(bytes, "x");
    expect.unreachable();
  } catch (error) {
    expect((error as Error).message).toMatch(/^[\x20-\x7e]*$/);
  }
});

test("every statement comes back; every changed byte is refused or a change of what it says", () => {
  const hex = (bytes: number) =>
    fc
      .uint8Array({ minLength: bytes, maxLength: bytes })
      .map((a) => Buffer.from(a).toString("hex"));
  const some = fc
    .record({
      wide: fc.boolean(),
      format: fc.constantFrom<"erofs-v1" | "erofs-v2">("erofs-v1", "erofs-v2"),
      version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      expires: fc.option(
        fc
          .integer({ min: 0, max: 253402300799 })
          .map((seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z")),
      ),
      digest: hex(64),
    })
    .map(({ wide, digest, ...rest }): ImageStatement => {
      return wide
        ? { ...rest, digest, algorithm: "sha512-12" }
        : { ...rest, digest: digest.slice(0, 64), algorithm: "sha256-12" };
    });
  fc.assert(
    fc.property(some, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, flip) => {
      const bytes = Buffer.from(formatSignedStatement(value, [signature("3")]));
      const parsed = parseSignedStatement(bytes, "x");
      expect(parsed.statement).toEqual(value);
      bytes[at % bytes.length]! ^= flip;
      try {
        const changed = parseSignedStatement(bytes, "x");
        const again = formatSignedStatement(changed.statement, changed.signatures);
        expect(Buffer.from(again)).toEqual(bytes);
        expect(changed).not.toEqual(parsed);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
      }
    }),
  );
});
