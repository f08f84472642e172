import { describe, expect, test } from "vitest";
import { writeErofsFromDump } from "../../../test/support/dump-image.ts";
import { FormatError } from "../../error.ts";
import { parseDump } from "../tree/dump.ts";
import { formatDump } from "../tree/dump-format.ts";
import type { ErofsFormat } from "./format.ts";
import { ComposefsHeader, ErofsSuperblock, SUPERBLOCK_AT } from "./layout.ts";
import { readErofs } from "./reader.ts";
import { planErofs, planErofsFromDump, writeErofs } from "./writer.ts";

// Bytes are compared with the real tools in test/vectors/composefs and
// test/integration/oracle-composefs.test.ts; here are the cases where C and Rust part
// (composefs.md 2.12) and the limits.

const ROOT = "/ 0 40755 2 0 0 0 0.0 - - -\n";
const C: ErofsFormat = { version: 1, dialect: "c" };
const RUST: ErofsFormat = { version: 1, dialect: "rust" };
const V2: ErofsFormat = { version: 2, dialect: "rust" };
const DIGEST = "581beca61b0204763a753048010fcfc78b874a4f38b7837240e8ddfdaf886945";

function write(lines: string, format: ErofsFormat): Uint8Array {
  return writeErofs(parseDump(Buffer.from(`${ROOT}${lines}\n`)), format);
}

function superblock(image: Uint8Array) {
  return ErofsSuperblock.decode(image, SUPERBLOCK_AT);
}

/** The tree in the image as dump lines, without the root's. */
function linesOf(image: Uint8Array): string[] {
  return [...formatDump(readErofs(image).root)].slice(1);
}

describe("where the dialects differ", () => {
  test("times before 1970 are the earliest for C, the latest for Rust", () => {
    const lines = "/a 0 100644 1 0 0 0 -5.3 - - -";
    expect(BigInt.asIntN(64, superblock(write(lines, C)).buildTime)).toBe(-5n);
    expect(superblock(write(lines, RUST)).buildTime).toBe(0n);
    expect(linesOf(write(lines, RUST))).toEqual(linesOf(write(lines, C)));
  });

  test("version 0 marks whiteouts without making their directory opaque", () => {
    const text = (image: Uint8Array) => Buffer.from(image).toString("latin1");
    const lines = "/w 0 20000 1 0 0 0 0.0 - - -";
    for (const dialect of ["c", "rust"] as const) {
      const version0 = write(lines, { version: 0, dialect });
      const version1 = write(lines, { version: 1, dialect });
      expect(ComposefsHeader.decode(version0).composefsVersion).toBe(0);
      expect(text(version0)).toContain("overlay.overlay.whiteouts");
      expect(text(version0)).not.toContain("overlay.overlay.opaque");
      expect(text(version1)).toContain("overlay.overlay.opaquex");
    }
  });

  test("more than 128 shared xattrs: C stores the rest with the inode", () => {
    const names = Array.from({ length: 140 }, (_, i) => `user.${i}=`).join(" ");
    const lines = ["a", "b"].map((name) => `/${name} 0 100644 1 0 0 0 0.0 - - - ${names}`);
    const c = write(lines.join("\n"), C);
    const rust = write(lines.join("\n"), RUST);
    expect(Buffer.compare(c, rust)).not.toBe(0);
    expect(linesOf(c).map((line) => line.trimEnd().split(" ").sort())).toEqual(
      linesOf(rust).map((line) => line.trimEnd().split(" ").sort()),
    );
  });

  test("a mark that is there already: C replaces it, Rust adds another", () => {
    const lines =
      "/d 0 40755 2 0 0 0 0.0 - - - user.overlay.opaque=n\n/d/w 0 20000 1 0 0 0 0.0 - - -";
    expect(linesOf(write(lines, C))[0]).not.toContain("user.overlay.opaque");
    const rust = write(lines, RUST);
    expect(linesOf(rust)[0]).toContain("user.overlay.opaque=n");
    expect(Buffer.compare(writeErofs(readErofs(rust).root, RUST), rust)).toBe(0);
  });

  test("a whiteout that looks like a 00..ff stub: Rust takes it for one", () => {
    const lines = "/ab 0 20644 1 0 0 0 0.0 - - -";
    expect(linesOf(write(lines, C))).toEqual(["/ab 0 20644 1 0 0 0 0.0 - - -\n"]);
    expect(Buffer.compare(write(lines, RUST), writeErofs(parseDump(Buffer.from(ROOT)), RUST))).toBe(
      0,
    );
  });

  test("a whiteout with two names: C allows it, Rust does not", () => {
    const lines = "/a 0 20644 2 0 0 0 0.0 - - -\n/b 0 @20644 1 0 0 0 0.0 /a - -";
    expect(linesOf(write(lines, C)).length).toBe(2);
    expect(() => write(lines, RUST)).toThrow(FormatError);
  });

  test("link counts: C believes the dump, Rust counts", () => {
    const lines = "/a 1 100644 77 0 0 0 0.0 - x -\n/b 0 @100644 1 0 0 0 0.0 /a - -";
    expect(linesOf(write(lines, C))[0]).toContain(" 100644 77 ");
    expect(linesOf(write(lines, RUST))[0]).toContain(" 100644 2 ");
  });

  test("the object's path: C believes the dump, Rust derives it", () => {
    const lines = `/a 9 100644 1 0 0 0 0.0 /odd - ${DIGEST}`;
    expect(linesOf(write(lines, C))[0]).toContain(" /odd - 581b");
    expect(linesOf(write(lines, RUST))[0]).toContain(` 58/${DIGEST.slice(2)} - 581b`);
  });

  test("the ACL flag: exact names for C, prefixes for Rust", () => {
    const lines = "/a 0 100644 1 0 0 0 0.0 - - - system.posix_acl_accessfoo=1";
    expect(ComposefsHeader.decode(write(lines, C)).flags).toBe(0);
    expect(ComposefsHeader.decode(write(lines, RUST)).flags).toBe(1);
    expect(ComposefsHeader.decode(write(lines, V2)).flags).toBe(0);
  });

  test("hard links: C's inode stays at the line that made it, Rust's is the first name", () => {
    const lines =
      "/a 0 @100644 1 0 0 0 0.0 /c - -\n/b 0 100644 1 0 0 0 0.0 - - -\n/c 1 100644 2 0 0 0 0.0 - x -";
    const c = write(lines, C);
    const rust = write(lines, RUST);
    expect(Buffer.compare(c, rust)).not.toBe(0);
    expect(linesOf(c)).toEqual(linesOf(rust));
    expect(Buffer.compare(writeErofs(readErofs(c).root, C), c)).toBe(0);
  });
});

describe("an image in pieces", () => {
  // Several windows, with whole blocks of directories and of contents.
  const lines = Array.from({ length: 9000 }, (_, index) => {
    const content = index % 50 === 0 ? "c".repeat(4999) : "c";
    return `/file-number-${index} ${content.length} 100644 1 0 0 0 0.${index} - ${content} -`;
  });
  const dump = Buffer.from(`${ROOT}${lines.join("\n")}\n`);

  test.each([C, RUST])("has the bytes of the whole, %j", (format) => {
    const whole = writeErofs(parseDump(dump), format);
    expect(whole.length).toBeGreaterThan(1 << 20);
    for (const plan of [planErofsFromDump(dump, {}, format), planErofs(parseDump(dump), format)]) {
      const pieces: Buffer[] = [];
      plan.write((piece) => pieces.push(Buffer.from(piece)));
      expect(pieces.length).toBeGreaterThan(2);
      expect(plan.sizeBytes).toBe(whole.length);
      expect(Buffer.compare(Buffer.concat(pieces), whole)).toBe(0);
    }
  });
});

describe("limits and refusals", () => {
  const manyXattrs = `/a 0 100644 1 0 0 0 0.0 - - - user.a=${"v".repeat(32743)}`;
  test.each([
    ["xattrs beyond C's budget", manyXattrs, C],
    ["version 2: long symlink", `/a 0 120777 1 0 0 0 0.0 ${"t".repeat(1025)} - -`, V2],
    ["version 2: large inline file", `/a 513 100644 1 0 0 0 0.0 - ${"c".repeat(513)} -`, V2],
  ])("%s", (_name, line, format) => {
    expect(() => write(line, format)).toThrow(FormatError);
    const dump = Buffer.from(`${ROOT}${line}\n`);
    expect(() => writeErofsFromDump(dump, {}, format)).toThrow(FormatError);
  });

  test("xattrs within C's budget, and beyond it in Rust", () => {
    expect(write(manyXattrs.slice(0, -1), C).length % 4096).toBe(0);
    expect(linesOf(write(manyXattrs, RUST)).length).toBe(1);
  });

  test("64,000 digests that differ in their last bits only: no search without end", () => {
    const lines = Array.from({ length: 64_000 }, (_, index) => {
      const digest = index.toString(16).padStart(64, "0");
      return `/file${index} 100 100644 1 0 0 0 0.0 ${digest.slice(0, 2)}/${digest.slice(2)} - ${digest}`;
    });
    const dump = Buffer.from(`${ROOT}${lines.join("\n")}\n`);
    expect(superblock(writeErofsFromDump(dump, {}, C)).inodeCount).toBe(64_257);
  });

  test("a digest of the wrong algorithm", () => {
    const root = parseDump(Buffer.from(`${ROOT}/a 9 100644 1 0 0 0 0.0 - - ${DIGEST}\n`));
    expect(() => writeErofs(root, RUST, "sha512")).toThrow(/sha512/);
    expect(writeErofs(root, RUST, "sha256").length).toBe(16384);
  });

  test("values that no field can hold", () => {
    const root = parseDump(Buffer.from(ROOT));
    for (const wrong of [{ uid: -1 }, { gid: 2 ** 32 }, { mtimeSec: 0.5 }, { mode: 0o100644 }]) {
      expect(() => writeErofs({ ...root, ...wrong }, RUST)).toThrow(FormatError);
    }
  });

  test("names that repeat, found in a dump without a tree", () => {
    const line = "/a 0 100644 1 0 0 0 0.0 - - -\n";
    const dump = Buffer.from(`${ROOT}${line}${line}`);
    expect(() => writeErofsFromDump(dump, {}, C)).toThrow(/"a" twice/);
  });

  test("the tree is left as it was", () => {
    const text = Buffer.from(
      `${ROOT}/d 0 40755 2 0 0 0 0.0 - - -\n/d/w 0 20000 1 0 0 0 0.0 - - -\n`,
    );
    const root = parseDump(text);
    writeErofs(root, RUST);
    expect(root).toEqual(parseDump(text));
  });
});
