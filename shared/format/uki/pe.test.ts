import { expect, test } from "vitest";
import { buildUki, sectionHeaderAt } from "../../../test/support/uki-builder.ts";
import { FormatError } from "../../error.ts";
import { parsePeSections } from "./pe.ts";

const sections = [
  [".osrel", "ID=debian\n"],
  [".cmdline", "root=UUID=1"],
  [".linux", "kernel"],
  [".initrd", "initramfs"],
] as const;
const image = buildUki(sections);
const read = (bytes: Uint8Array) =>
  parsePeSections(bytes, bytes.length).map(({ name, offset, sizeBytes }) => [
    name,
    Buffer.from(bytes.subarray(offset, offset + sizeBytes)).toString(),
  ]);

test("sections with their contents, less the padding", () => {
  expect(read(image)).toEqual(sections);
});

test("the first of several profiles, on top of what they share", () => {
  const profiles = buildUki([
    ...sections,
    [".profile", "ID=first"],
    [".cmdline", "first"],
    [".profile", "ID=second"],
    [".cmdline", "second"],
  ]);
  expect(Object.fromEntries(read(profiles))).toMatchObject({
    ".linux": "kernel",
    ".profile": "ID=first",
    ".cmdline": "first",
  });
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
  ["a section twice", buildUki([...sections, [".linux", "other"]]), '".linux" twice'],
])("refuses %s", (_, bytes, message) => {
  expect(() => parsePeSections(bytes, bytes.length)).toThrow(FormatError);
  expect(() => parsePeSections(bytes, bytes.length)).toThrow(message);
});

test("a file that is longer than what was read of it", () => {
  expect(parsePeSections(image.subarray(0, 1024), image.length)).toHaveLength(4);
  expect(() => parsePeSections(image.subarray(0, 1024), 1024)).toThrow(FormatError);
});
