import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NO_XATTRS } from "../tree/node.ts";
import type { TarEntry } from "./entry.ts";
import { TarReader } from "./reader.ts";
import { encodeTarHeader, TAR_END_BYTES, tarPaddingBytes } from "./writer.ts";

const FILE: TarEntry = {
  type: "file",
  path: "usr/lib/x",
  linkTarget: "",
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeSec: 1_700_000_000,
  mtimeNsec: 0,
  rdev: 0,
  sizeBytes: 0,
  xattrs: NO_XATTRS,
};

function readBack(entry: TarEntry, content = Buffer.alloc(entry.sizeBytes, "c")): TarEntry[] {
  const found: TarEntry[] = [];
  const parts: Buffer[] = [];
  const reader = new TarReader({
    raw: () => {},
    entry: (each) => void found.push(each),
    content: (bytes) => void parts.push(Buffer.from(bytes)),
    contentEnd: () => {},
  });
  reader.write(encodeTarHeader(entry));
  reader.write(content);
  reader.write(new Uint8Array(tarPaddingBytes(content.length)));
  reader.write(new Uint8Array(TAR_END_BYTES));
  reader.finish();
  expect(Buffer.concat(parts)).toEqual(content);
  return found;
}

describe("what is written is read back", () => {
  const cases: readonly Partial<TarEntry>[] = [
    {},
    { sizeBytes: 1 },
    { sizeBytes: 512 },
    { type: "directory", path: "usr/", mode: 0o755 },
    { type: "symlink", linkTarget: "../x", mode: 0o777 },
    { type: "symlink", linkTarget: "t".repeat(300) },
    { type: "hardlink", linkTarget: "usr/lib/y" },
    { type: "fifo" },
    { path: "p/".repeat(90) },
    { path: "\xff\xfe" },
    { mtimeNsec: 1 },
    { mtimeNsec: 999_999_999 },
    { mtimeSec: -5 },
    { mtimeSec: 0o77777777777 + 1 },
    { uid: 0o7777777, gid: 0o10000000 },
    { uid: 0xffffffff },
    { mode: 0o7777 },
    {
      xattrs: new Map([
        ["security.capability", new Uint8Array([1, 0, 10, 0x3d, 255])],
        ["user.a", new Uint8Array(0)],
      ]),
    },
  ];
  test.each(cases)("%j", (change) => {
    const entry = { ...FILE, ...change };
    expect(readBack(entry)).toEqual([entry]);
  });

  test("whatever its name, times, numbers and attributes", () => {
    const bytes = (max: number) =>
      fc
        .uint8Array({ minLength: 1, maxLength: max })
        .map((each) => Buffer.from(each).toString("latin1").replaceAll("\0", "n"));
    const entries = fc.record({
      path: bytes(300),
      uid: fc.nat(0xffffffff),
      mtimeSec: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      mtimeNsec: fc.nat(999_999_999),
      sizeBytes: fc.nat(2000),
      xattrs: fc
        .array(fc.tuple(fc.stringMatching(/^user\.[a-z]{1,20}$/), fc.uint8Array({ maxLength: 40 })))
        .map((pairs) => new Map(pairs)),
    });
    fc.assert(
      fc.property(entries, (change) => {
        const entry = { ...FILE, ...change };
        expect(readBack(entry)).toEqual([entry]);
      }),
    );
  });
});

test("device nodes are refused", () => {
  expect(() => encodeTarHeader({ ...FILE, type: "char" })).toThrow("Device nodes");
});
