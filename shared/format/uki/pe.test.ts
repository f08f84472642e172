import { expect, test } from "vitest";
import {
  buildUki,
  MACHINE_AT,
  OPTIONAL_AT,
  sectionHeaderAt,
} from "../../../test/support/uki-builder.ts";
import { FormatError } from "../../error.ts";
import { parsePeProgram } from "./pe.ts";

const sections = [
  [".osrel", "ID=debian\n"],
  [".cmdline", "root=UUID=1"],
  [".linux", "kernel"],
  [".initrd", "initramfs"],
] as const;
const image = buildUki(sections);
const read = (bytes: Uint8Array) =>
  parsePeProgram(bytes, bytes.length).profiles[0].map(({ name, offset, sizeBytes }) => [
    name,
    Buffer.from(bytes.subarray(offset, offset + sizeBytes)).toString(),
  ]);

test("sections with their contents, less the padding", () => {
  expect(read(image)).toEqual(sections);
});

test("each of several profiles, on top of what they share", () => {
  const bytes = buildUki([
    ...sections,
    [".profile", "ID=first"],
    [".profile", "ID=second"],
    [".cmdline", "second"],
  ]);
  const { profiles } = parsePeProgram(bytes, bytes.length);
  const texts = profiles.map((profile) =>
    Object.fromEntries(
      profile.map(({ name, offset, sizeBytes }) => [
        name,
        Buffer.from(bytes.subarray(offset, offset + sizeBytes)).toString(),
      ]),
    ),
  );
  expect(texts).toMatchObject([
    { ".linux": "kernel", ".profile": "ID=first", ".cmdline": "root=UUID=1" },
    { ".linux": "kernel", ".profile": "ID=second", ".cmdline": "second" },
  ]);
});

test.each([
  [0x8664, "x64"],
  [0xaa64, "arm64"],
  [0x14c, "ia32"],
  [0x1234, null],
])("machine %i is %s", (machine, architecture) => {
  const bytes = damaged((b) => b.writeUInt16LE(machine, MACHINE_AT));
  expect(parsePeProgram(bytes, bytes.length).architecture).toBe(architecture);
});

function damaged(change: (bytes: Buffer) => void, of = image): Uint8Array {
  const copy = Buffer.from(of);
  change(copy);
  return new Uint8Array(copy);
}

test.each([
  ["an empty file", new Uint8Array(0), "64 bytes"],
  ["another kind of file", new Uint8Array(1024), "DosHeader.magic"],
  ["a header beyond the end", damaged((b) => b.writeUInt32LE(0xffff_fff0, 60)), "CoffHeader needs"],
  ["no PE signature", damaged((b) => b.write("XX", 128)), "CoffHeader.signature"],
  ["a thousand sections", damaged((b) => b.writeUInt16LE(1000, 128 + 6)), "1000 sections"],
  [
    "a table beyond the end",
    damaged((b) => b.writeUInt16LE(0xffff, 128 + 20)),
    "SectionHeader needs",
  ],
  [
    "a section beyond the end",
    damaged((b) => b.writeUInt32LE(1 << 30, sectionHeaderAt(1) + 20)),
    "section 1",
  ],
  [
    "sections that overlap",
    damaged((b) =>
      b.writeUInt32LE(b.readUInt32LE(sectionHeaderAt(0) + 20), sectionHeaderAt(2) + 20),
    ),
    "overlap",
  ],
  [
    "sections that overlap in memory only",
    damaged((b) =>
      b.writeUInt32LE(b.readUInt32LE(sectionHeaderAt(1) + 12), sectionHeaderAt(0) + 12),
    ),
    "overlap",
  ],
  [
    "a section that reaches over others in memory",
    damaged((b) => b.writeUInt32LE(0xffff_ffff, sectionHeaderAt(1) + 8)),
    "overlap",
  ],
  [
    "a program for 32 bits where 64 are said",
    damaged((b) => b.writeUInt16LE(0x10b, OPTIONAL_AT)),
    "PE32",
  ],
  [
    "a section twice in another profile",
    buildUki([...sections, [".profile", "a"], [".profile", "b"], [".uname", "1"], [".uname", "2"]]),
    '".uname" twice',
  ],
  ["a section twice", buildUki([...sections, [".linux", "other"]]), '".linux" twice'],
])("refuses %s", (_, bytes, message) => {
  expect(() => parsePeProgram(bytes, bytes.length)).toThrow(FormatError);
  expect(() => parsePeProgram(bytes, bytes.length)).toThrow(message);
});

test("a file that is longer than what was read of it", () => {
  expect(parsePeProgram(image.subarray(0, 1024), image.length).profiles[0]).toHaveLength(4);
  expect(() => parsePeProgram(image.subarray(0, 1024), 1024)).toThrow(FormatError);
});
