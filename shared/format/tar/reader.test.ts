// What image layers contain, in all dialects; GNU tar and tar-stream as second opinions.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { pack } from "tar-stream";
import { describe, expect, test } from "vitest";
import {
  paxMember,
  TAR_END,
  type TarMember,
  tarMember,
} from "../../../test/support/tar-builder.ts";
import { type ReadMember, readTar } from "../../../test/support/tar-listing.ts";

function readOne(...blocks: Buffer[]): ReadMember {
  const { members } = readTar(Buffer.concat([...blocks, TAR_END]));
  expect(members).toHaveLength(1);
  return members[0]!;
}

const file = (fields: Partial<TarMember> = {}): Buffer =>
  tarMember({ name: "f", content: "data", ...fields });

describe("entries", () => {
  test.each<[string, Buffer[], Partial<ReadMember>]>([
    [
      "ustar file",
      [file({ mode: 0o4755, uid: 7, gid: 8, mtime: 99 })],
      {
        type: "file",
        path: "f",
        mode: 0o4755,
        uid: 7,
        gid: 8,
        mtimeSec: 99,
        mtimeNsec: 0,
        sizeBytes: 4,
        content: "data",
      },
    ],
    ["ustar prefix", [file({ prefix: "a/b" })], { path: "a/b/f" }],
    ["GNU header ignores the prefix field", [file({ magic: "gnu", prefix: "123" })], { path: "f" }],
    ["V7 file", [file({ magic: "v7", type: "\0" })], { type: "file", content: "data" }],
    ["V7 directory", [tarMember({ name: "d/", magic: "v7", type: "\0" })], { type: "directory" }],
    ["contiguous file", [file({ type: "7" })], { type: "file", content: "data" }],
    [
      "directory",
      [tarMember({ name: "./d/", type: "5", mode: 0o755 })],
      {
        type: "directory",
        path: "./d/",
        mode: 0o755,
      },
    ],
    [
      "symlink",
      [tarMember({ name: "l", type: "2", linkName: "../x" })],
      {
        type: "symlink",
        linkTarget: "../x",
      },
    ],
    [
      "hard link",
      [tarMember({ name: "l", type: "1", linkName: "f" })],
      {
        type: "hardlink",
        linkTarget: "f",
      },
    ],
    ["fifo", [tarMember({ name: "p", type: "6" })], { type: "fifo" }],
    [
      "char device",
      [tarMember({ name: "c", type: "3", device: [1, 3] })],
      {
        type: "char",
        rdev: 0x103,
      },
    ],
    [
      "block device with large numbers",
      [tarMember({ name: "b", type: "4", device: [0xfff, 0xfffff] })],
      { type: "block", rdev: 0xffffffff },
    ],
    ["non-UTF-8 name", [file({ name: Buffer.from([0x61, 0xff, 0x62]) })], { path: "a\xffb" }],
    ["name of exactly 100 bytes", [file({ name: "n".repeat(100) })], { path: "n".repeat(100) }],
    [
      "GNU long name",
      [
        tarMember({ name: "././@LongLink", type: "L", content: `${"x".repeat(300)}\0` }),
        file({ magic: "gnu" }),
      ],
      { path: "x".repeat(300) },
    ],
    [
      "GNU long link after long name",
      [
        tarMember({ name: "././@LongLink", type: "L", content: `${"x".repeat(300)}\0` }),
        tarMember({ name: "././@LongLink", type: "K", content: `${"y".repeat(200)}\0` }),
        tarMember({ name: "l", type: "2", magic: "gnu", linkName: "z" }),
      ],
      { path: "x".repeat(300), linkTarget: "y".repeat(200) },
    ],
    [
      "PAX wins over GNU long name",
      [
        tarMember({ name: "././@LongLink", type: "L", content: "gnu\0" }),
        paxMember([["path", "pax"]]),
        file(),
      ],
      { path: "pax" },
    ],
    [
      "PAX path with bytes",
      [paxMember([["path", Buffer.from([0x64, 0x2f, 0xc3, 0x28])]]), file()],
      { path: "d/\xc3\x28" },
    ],
    [
      "PAX value with newline and =",
      [paxMember([["path", "a\nb=c"]]), file()],
      {
        path: "a\nb=c",
      },
    ],
    [
      "PAX ids, size",
      [
        paxMember([
          ["uid", "4294967295"],
          ["gid", "2097152"],
          ["size", "4"],
        ]),
        file({ sizeBytes: 0 }),
      ],
      { uid: 4294967295, gid: 2097152, sizeBytes: 4, content: "data" },
    ],
    [
      "empty PAX value takes one back",
      [
        paxMember([
          ["path", "x"],
          ["path", ""],
        ]),
        file(),
      ],
      {
        path: "f",
      },
    ],
    [
      "unknown PAX keys",
      [
        paxMember([
          ["comment", "hi"],
          ["LIBARCHIVE.creationtime", "1"],
        ]),
        file(),
      ],
      {
        path: "f",
      },
    ],
    [
      "global PAX is skipped",
      [
        paxMember(
          [
            ["path", "no"],
            ["comment", "c"],
          ],
          "g",
        ),
        file(),
      ],
      {
        path: "f",
      },
    ],
    [
      "base-256 uid and mtime",
      [file({ patch: [108, Buffer.from([0x80, 0, 0, 0, 0x12, 0x34, 0x56, 0x78])] })],
      { uid: 0x12345678 },
    ],
    ["negative base-256 mtime", [file({ patch: [136, Buffer.alloc(12, 0xff)] })], { mtimeSec: -1 }],
    [
      "numbers with leading spaces",
      [file({ patch: [100, Buffer.from("   755 \0")] })],
      {
        mode: 0o755,
      },
    ],
    ["empty number fields", [file({ patch: [108, Buffer.alloc(16)] })], { uid: 0, gid: 0 }],
    [
      "signed checksum",
      [file({ name: Buffer.from([0x61, 0xff, 0xfe]), checksumError: -512 })],
      { path: "a\xff\xfe" },
    ],
    ["empty file", [file({ content: "" })], { sizeBytes: 0, content: "" }],
  ])("%s", (_name, blocks, expected) => {
    expect(readOne(...blocks)).toMatchObject(expected);
  });

  test.each([
    ["1", 1, 0],
    ["1.5", 1, 500_000_000],
    ["1.123456789", 1, 123_456_789],
    ["1.1234567899", 1, 123_456_789],
    ["1.000000001", 1, 1],
    ["1.", 1, 0],
    ["-3", -3, 0],
    ["-0", 0, 0],
  ])("PAX mtime %s", (text, mtimeSec, mtimeNsec) => {
    const entry = readOne(paxMember([["mtime", text]]), file({ mtime: 77 }));
    expect(entry).toMatchObject({ mtimeSec, mtimeNsec });
  });

  test("xattrs are bytes", () => {
    const capability = Buffer.from([1, 0, 0, 2, 0xff, 0xfe, 0x80, 0, 0x0a, 0x3d]);
    const { xattrs } = readOne(
      paxMember([
        ["SCHILY.xattr.security.capability", capability],
        ["SCHILY.xattr.user.empty", ""],
      ]),
      file(),
    );
    expect([...xattrs]).toEqual([
      ["security.capability", new Uint8Array(capability)],
      ["user.empty", new Uint8Array(0)],
    ]);
  });

  test("extensions hold for one entry only", () => {
    const { members } = readTar(
      Buffer.concat([
        paxMember([
          ["path", "long"],
          ["SCHILY.xattr.user.a", "1"],
        ]),
        file(),
        file(),
      ]),
    );
    expect(members.map(({ path, xattrs }) => [path, xattrs.size])).toEqual([
      ["long", 1],
      ["f", 0],
    ]);
  });
});

describe("the end", () => {
  test.each([
    ["two zero blocks", TAR_END],
    ["no zero blocks", Buffer.alloc(0)],
    ["one zero block", Buffer.alloc(512)],
    ["record padding", Buffer.alloc(10240)],
    ["garbage after the end", Buffer.concat([TAR_END, Buffer.from("anything")])],
    ["an archive after the end", Buffer.concat([TAR_END, file({ name: "hidden" })])],
  ])("%s", (_name, end) => {
    const archive = Buffer.concat([file(), end]);
    const { members, bytes } = readTar(archive);
    expect(members.map(({ path }) => path)).toEqual(["f"]);
    expect(bytes.equals(archive)).toBe(true);
  });

  test("an empty archive", () => {
    expect(readTar(TAR_END).members).toEqual([]);
  });
});

test("any chunking gives the same entries and the same bytes", () => {
  const archive = Buffer.concat([
    paxMember([
      ["path", "p".repeat(200)],
      ["SCHILY.xattr.user.x", Buffer.alloc(700, 7)],
    ]),
    file({ content: "c".repeat(1300) }),
    tarMember({ name: "L", type: "L", content: `${"n".repeat(600)}\0` }),
    tarMember({ name: "d", type: "5" }),
    file({ content: "" }),
    TAR_END,
    Buffer.from("tail"),
  ]);
  const whole = readTar(archive);
  expect(whole.bytes.equals(archive)).toBe(true);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1500 }), (chunkBytes) => {
      const { members, bytes } = readTar(archive, chunkBytes);
      expect(members).toEqual(whole.members);
      expect(bytes.equals(archive)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

describe("second opinions", () => {
  test("tar-stream's archives", async () => {
    const packer = pack();
    packer.entry({ name: "dir", type: "directory", mode: 0o750, uid: 3 });
    packer.entry({ name: `dir/${"ä".repeat(90)}`, mtime: new Date(1_000_000) }, "text");
    packer.entry({ name: "link", type: "symlink", linkname: "dir" });
    packer.entry({ name: "dev", type: "character-device", devmajor: 5, devminor: 1 });
    packer.entry({ name: "pax", pax: { "SCHILY.xattr.user.a": "b" } }, "");
    packer.finalize();
    const parts: Buffer[] = [];
    for await (const part of packer) parts.push(part as Buffer);
    const archive = Buffer.concat(parts);
    const { members, bytes } = readTar(archive, 1000);
    expect(bytes.equals(archive)).toBe(true);
    expect(members).toMatchObject([
      { path: "dir", type: "directory", mode: 0o750, uid: 3 },
      { type: "file", mtimeSec: 1000, content: "text" },
      { path: "link", type: "symlink", linkTarget: "dir" },
      { path: "dev", type: "char", rdev: 0x501 },
      { path: "pax", xattrs: new Map([["user.a", new Uint8Array([0x62])]]) },
    ]);
    expect(Buffer.from(members[1]!.path, "latin1").toString()).toBe(`dir/${"ä".repeat(90)}`);
  });

  test.each(["v7", "ustar", "gnu", "oldgnu", "pax"])("GNU tar --format=%s", (format) => {
    const directory = mkdtempSync(join(tmpdir(), "tar-"));
    try {
      const script = `
        set -e
        cd "$1"
        mkdir -p src/sub
        printf hello > src/sub/file
        ln src/sub/file src/hard
        ln -s sub/file src/soft
        head -c 100000 /dev/zero > src/zeros
        touch -d @1700000000.123456789 src/sub/file
        if [ "$2" != v7 ]; then
          mkfifo src/pipe
          long=src/$(printf 'd%.0s' $(seq 90))
          mkdir "$long"
          touch "$long/$(printf 'f%.0s' $(seq 99))"
        fi
        tar --format="$2" --sort=name --owner=12 --group=34 -cf out.tar -C src .
        TZ=UTC tar --full-time --numeric-owner --quoting-style=literal -tvf out.tar`;
      const made = spawnSync("sh", ["-c", script, "sh", directory, format], { encoding: "utf8" });
      expect(made.stderr).toBe("");
      const listed = made.stdout
        .trim()
        .split("\n")
        .map((line) => line.split(/\s+/));
      const archive = readFileSync(join(directory, "out.tar"));
      const { members, bytes } = readTar(archive, 4096);
      expect(bytes.equals(archive)).toBe(true);
      expect(
        members.map(({ path, uid, gid, sizeBytes }) => [path, `${uid}/${gid}`, String(sizeBytes)]),
      ).toEqual(listed.map((words) => [words[5], words[1], words[2]]));
      expect(members.find(({ path }) => path === "./sub/file")).toMatchObject({
        mtimeSec: 1_700_000_000,
        mtimeNsec: format === "pax" ? 123_456_789 : 0,
        ...(members.find(({ type }) => type === "hardlink")?.path === "./sub/file"
          ? { type: "hardlink", linkTarget: "./hard" }
          : { type: "file", content: "hello" }),
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
