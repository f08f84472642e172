import { describe, expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { parseDump } from "./dump.ts";
import type { DumpOptions } from "./dump-field.ts";
import { formatDump } from "./dump-format.ts";
import type { DirectoryNode, TreeNode } from "./node.ts";

const ROOT = "/ 0 40755 2 0 0 0 0.0 - - -\n";
const DIGEST = "581beca61b0204763a753048010fcfc78b874a4f38b7837240e8ddfdaf886945";

function parse(lines: string, options: DumpOptions = {}): DirectoryNode {
  return parseDump(Buffer.from(`${ROOT}${lines}\n`, "latin1"), options);
}

function parseOne(line: string, options?: DumpOptions): TreeNode {
  return [...parse(line, options).entries.values()][0]!;
}

function errorOf(action: () => unknown): FormatError {
  try {
    action();
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

// What mkcomposefs 1.0.8 takes and refuses was tried with the tool itself.
describe("one line in C's dialect", () => {
  test.each([
    ["no leading slash", "a 0 100644 1 0 0 0 0.0 - - -", {}],
    ["repeated slashes", "//a 0 100644 1 0 0 0 0.0 - - -", {}],
    ["plus and leading zero", "/a +0 0100644 +7 0 0 0 0.0 - - -", { nlink: 7, mode: 0o100644 }],
    ["mode cut to 16 bits", "/a 0 20700644 1 0 0 0 0.0 - - -", { mode: 0o100644 }],
    ["minus one as uid", "/a 0 100644 1 -1 0 0 0.0 - - -", { uid: 0xffff_ffff }],
    ["uid cut to 32 bits", "/a 0 100644 1 4294967297 0 0 0.0 - - -", { uid: 1 }],
    ["negative time", "/a 0 100644 1 0 0 0 -5.3 - - -", { mtimeSec: -5, mtimeNsec: 3 }],
    ["escaped NUL ends text", "/a\\x00b 0 100644 1 0 0 0 0.0 - - -", {}],
    ["rdev of a file", "/a 0 100644 1 0 0 77 0.0 - - -", {}],
    ["device", "/a 0 20644 1 0 0 259 0.0 - - -", { kind: "special", rdev: 259 }],
    ["trailing space", "/a 0 100644 1 0 0 0 0.0 - - - ", {}],
    ["missing fields", "/a 0 100644 1 0 0 0 0.0", {}],
  ])("takes %s", (_name, line, expected) => {
    expect(parse(line).entries.has("a")).toBe(true);
    expect(parseOne(line)).toMatchObject(expected);
  });

  test("content, in and out of the image", () => {
    const external = `/a 9007199254740992 100644 1 0 0 0 0.0 58/1b - ${DIGEST.toUpperCase()}`;
    expect(parseOne(external)).toMatchObject({
      content: { kind: "external", sizeBytes: 2 ** 53, digest: DIGEST, payload: "58/1b" },
    });
    expect(parseOne("/a 3 100644 1 0 0 0 0.0 x \\n\\x2d\\\\ -")).toMatchObject({
      content: { kind: "inline", bytes: Uint8Array.from([10, 45, 92]) },
    });
    expect(parseOne("/a 5 100644 1 0 0 0 0.0 - - -")).toMatchObject({
      content: { kind: "external", sizeBytes: 5 },
    });
    expect(parseOne("/a 0 120777 1 0 0 0 0.0 t\\x20t - -")).toMatchObject({ target: "t t" });
  });

  test("xattrs: escapes, empty values, the last of a repeated key", () => {
    const node = parseOne("/a 0 100644 1 0 0 0 0.0 - - - user.a=1 k\\x3d=a=b user.a= d=-");
    expect([...node.xattrs].map(([key, value]) => [key, Buffer.from(value).toString()])).toEqual([
      ["user.a", ""],
      ["k=", "a=b"],
      ["d", "-"],
    ]);
  });

  test.each([
    ["", 2, "PATH"],
    ["/a/ 0 40755 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/d/a 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/. 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/.. 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    [`/${"n".repeat(256)} 0 100644 1 0 0 0 0.0 - - -`, 2, "PATH"],
    ["/ 0 40755 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/a 0 100644 1 0 0 0 0.0 - - -\n/a 0 100644 1 0 0 0 0.0 - - -", 3, "PATH"],
    ["/a 0 100644 1 0 0 0 0.0 - - -\n/a/b 0 100644 1 0 0 0 0.0 - - -", 3, "PATH"],
    ["/a\\q 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/a\\x4 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/a\\ 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/a\0b 0 100644 1 0 0 0 0.0 - - -", 2, "PATH"],
    ["/a  0 100644 1 0 0 0 0.0 - - -", 2, "MODE"],
    ["/a x 100644 1 0 0 0 0.0 - - -", 2, "SIZE"],
    ["/a 9007199254740993 100644 1 0 0 0 0.0 - - -", 2, "SIZE"],
    ["/a 3 100644 1 0 0 0 0.0 - ab -", 2, "SIZE"],
    ["/a 5 100644 1 0 0 0 0.0 -  -", 2, "SIZE"],
    ["/a 4 40755 1 0 0 0 0.0 - abc -", 2, "SIZE"],
    ["/a 4 40755 1 0 0 0 0.0 -", 2, "SIZE"],
    ["/a 4 10644 1 0 0 0 0.0 - \\x4 -", 2, "CONTENT"],
    ["/a 0 120777 1 0 0 0 0.0 b - \\q", 2, "DIGEST"],
    [`/a 0 40755 1 0 0 0 0.0 ${"t".repeat(4096)} - -`, 2, "PAYLOAD"],
    ["/a 0 644 1 0 0 0 0.0 - - -", 2, "MODE"],
    ["/a 0 30644 1 0 0 0 0.0 - - -", 2, "MODE"],
    ["/a 0 100648 1 0 0 0 0.0 - - -", 2, "MODE"],
    ["/a 0 2000000000000000100644 1 0 0 0 0.0 - - -", 2, "MODE"],
    ["/a 0 100644 1 0 0 0 5 - - -", 2, "MTIME"],
    ["/a 0 100644 1 0 0 0", 2, "MTIME"],
    ["/a 0 120777 1 0 0 0 0.0 - - -", 2, "PAYLOAD"],
    [`/a 0 120777 1 0 0 0 0.0 ${"t".repeat(4096)} - -`, 2, "PAYLOAD"],
    [`/a 10 100777 1 0 0 0 0.0 ${"t".repeat(4096)} - -`, 2, "PAYLOAD"],
    [`/a 5001 100644 1 0 0 0 0.0 - ${"c".repeat(5001)} -`, 2, "CONTENT"],
    ["/a 10 100644 1 0 0 0 0.0 a/b - abcd", 2, "DIGEST"],
    [`/a 10 100644 1 0 0 0 0.0 a/b - ${DIGEST.replace("5", "g")}`, 2, "DIGEST"],
    ["/a 0 100644 1 0 0 0 0.0 - - - user.a", 2, "xattr"],
    ["/a 0 100644 1 0 0 0 0.0 - - - =1", 2, "xattr"],
    ["/a 0 100644 1 0 0 0 0.0 - - -  user.a=1", 2, "xattr"],
    [`/a 0 100644 1 0 0 0 0.0 - - - ${"k".repeat(256)}=1`, 2, "xattr"],
    [`/a 0 100644 1 0 0 0 0.0 - - - k=${"v".repeat(65536)}`, 2, "xattr"],
  ])("refuses %j", (lines, line, field) => {
    const error = errorOf(() => parse(lines));
    expect(error.context).toMatchObject({ format: "dump", line, field });
  });

  test.each([
    ["", "PATH"],
    ["/a 0 100644 1 0 0 0 0.0 - - -\n", "PATH"],
    ["/ 0 100644 1 0 0 0 0.0 - - -", "MODE"],
    ["/ 0 @40755 1 0 0 0 0.0 - - -", "MODE"],
  ])("refuses %j as a whole dump", (text, field) => {
    const error = errorOf(() => parseDump(Buffer.from(text)));
    expect(error.context).toMatchObject({ line: 1, field });
  });
});

describe("hard links", () => {
  const file = "1 100644 5 1 2 0 7.8 - x -";

  test.each([
    ["backward", `/a ${file}\n/b 0 @100644 - - - - - /a - -`],
    ["forward", `/a 0 @100644 1 0 0 0 0.0 /b - -\n/b ${file}`],
    ["to a link", `/c 0 @100644 1 0 0 0 0.0 /b - -\n/b 0 @100644 1 0 0 0 0.0 /a - -\n/a ${file}`],
    ["with slashes", `/a ${file}\n/b 0 @100644 1 0 0 0 0.0 a/ - -`],
  ])("%s", (_name, lines) => {
    const { entries } = parse(lines);
    expect(entries.get("a")).toBe(entries.get("b"));
    expect(entries.get("a")).toMatchObject({ nlink: 5, mtimeSec: 7 });
  });

  test("C's dialect keeps which name carries the inode", () => {
    const lines = `/a 0 @100644 1 0 0 0 0.0 /b - -\n/b ${file}`;
    const root = parse(lines);
    expect(root.entries.get("a")).toMatchObject({ home: { directory: root, name: "b" } });
    expect(parse(lines, { dialect: "rust" }).entries.get("a")).not.toHaveProperty("home");
  });

  test.each([
    ["/b 0 @100644 1 0 0 0 0.0 /a - -", 2, "PAYLOAD"],
    ["/b 0 @100644 1 0 0 0 0.0 / - -", 2, "PAYLOAD"],
    ["/b 0 @100644 1 0 0 0 0.0 - - -", 2, "PAYLOAD"],
    ["/a 0 @100644 1 0 0 0 0.0 /a - -", 2, "PAYLOAD"],
    ["/a 0 @100644 1 0 0 0 0.0 /b - -\n/b 0 @100644 1 0 0 0 0.0 /a - -", 2, "PAYLOAD"],
    ["/a 0 40755 2 0 0 0 0.0 - - -\n/b 0 @100644 1 0 0 0 0.0 /a - -", 3, "PAYLOAD"],
    ["/a 0 40755 2 0 0 0 0.0 - - -\n/b 0 @40755 1 0 0 0 0.0 /a - -", 3, "MODE"],
    [`/a ${file}\n/b 0 @100644 1 0 0 0 0.0 /a - -\n/b ${file}`, 4, "PATH"],
  ])("refuses %j", (lines, line, field) => {
    expect(errorOf(() => parse(lines)).context).toMatchObject({ line, field });
  });

  test("a long chain of links takes linear time", () => {
    const count = 20_000;
    const lines = [`/f0 ${file}`];
    for (let i = count; i > 0; i--) lines.push(`/f${i} 0 @100644 1 0 0 0 0.0 /f${i - 1} - -`);
    const { entries } = parse(lines.join("\n"));
    expect(entries.get(`f${count}`)).toBe(entries.get("f0"));
  });
});

describe("strict mode and Rust's dialect", () => {
  test("strict mode wants a last newline", () => {
    expect(parseDump(Buffer.from(ROOT.trimEnd())).kind).toBe("directory");
    const error = errorOf(() => parseDump(Buffer.from(ROOT.trimEnd()), { strict: true }));
    expect(error.code).toBe("truncated");
  });

  const rust: DumpOptions = { dialect: "rust" };
  const strict: DumpOptions = { strict: true };
  test.each([
    [strict, "/a 9 120777 1 0 0 0 0.0 abc - -", "SIZE"],
    [strict, "/a 3 120777 1 0 0 0 0.0 abc con -", "CONTENT"],
    [strict, "/a 0 100644 1 0 0 77 0.0 - - -", "RDEV"],
    [rust, "/a 0 100644 1 0 0 77 0.0 - - -", "RDEV"],
    [rust, "//a 0 100644 1 0 0 0 0.0 - - -", "PATH"],
    [rust, "/a\\x00b 0 100644 1 0 0 0 0.0 - - -", "PATH"],
    [rust, "/a 0 300644 1 0 0 0 0.0 - - -", "MODE"],
    [rust, "/a 0 100644 1 -1 0 0 0.0 - - -", "UID"],
    [rust, "/a 0 100644 1 4294967296 0 0 0.0 - - -", "UID"],
    [rust, "/a 0 100644 1 0 0 0 -5.3 - - -", "MTIME"],
    [rust, "/a 0 100644 1 0 0 0 0.0", "line"],
    [rust, `/a 0 120777 1 0 0 0 0.0 ${"t".repeat(1025)} - -`, "PAYLOAD"],
    [rust, `/a 513 100644 1 0 0 0 0.0 - ${"c".repeat(513)} -`, "CONTENT"],
  ])("%j refuses %j", (options, line, field) => {
    expect(errorOf(() => parse(line, options)).context).toMatchObject({ line: 2, field });
  });
});

test("an object of no bytes is an empty file to C and an object to Rust", () => {
  const line = `/a 0 100644 1 0 0 0 0.0 58/1b - ${DIGEST}`;
  expect(parseOne(line)).toMatchObject({ content: { kind: "inline" } });
  const content = { kind: "external", sizeBytes: 0, digest: DIGEST };
  expect(parseOne(line, { dialect: "rust" })).toMatchObject({ content });
});

describe("formatDump", () => {
  const text = [
    "/ 4096 40755 3 0 0 0 0.0 - - - user.z=1 user.a=\\x3d",
    "/d 40 40755 2 1 2 0 3.4 - - -",
    `/d/f 9 100644 7 0 0 0 -1.5 58/1b - ${DIGEST}`,
    `/l 9 @100644 7 0 0 0 -1.5 /d/f - ${DIGEST}`,
    "/s 4 120777 1 0 0 0 0.0 \\xff\\n=\\\\ - -",
    "",
  ].join("\n");

  test("C's dialect prints what it reads", () => {
    expect([...formatDump(parseDump(Buffer.from(text)))].join("")).toBe(text);
  });

  test("Rust's dialect counts links, sorts xattrs and is short about hard links", () => {
    const root = parseDump(Buffer.from(text));
    expect([...formatDump(root, { dialect: "rust" })]).toEqual([
      "/ 0 40755 3 0 0 0 0.0 - - - user.a=\\x3d user.z=1\n",
      "/d 0 40755 2 1 2 0 3.4 - - -\n",
      `/d/f 9 100644 2 0 0 0 -1.5 58/1b - ${DIGEST}\n`,
      "/l 0 @120000 - - - - 0.0 /d/f - -\n",
      "/s 4 120777 1 0 0 0 0.0 \\xff\\n=\\\\ - -\n",
    ]);
  });

  test("a lone dash is escaped", () => {
    const root = parse("/a 1 100644 1 0 0 0 0.0 - \\x2d -");
    expect([...formatDump(root)][1]).toBe("/a 1 100644 1 0 0 0 0.0 - \\x2d -\n");
  });
});
