import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { type BlsEntry, compareEntries, formatEntry, parseEntry } from "./entry.ts";

const written = `title Debian GNU/Linux 13 (trixie)
version 13
linux /EFI/Linux/bootc_composefs-aa/vmlinuz
initrd /EFI/Linux/bootc_composefs-aa/initrd
options root=UUID=1 rw composefs=aa
sort-key bootc-debian-0
`;

test("bootc's text survives a round trip byte for byte", () => {
  const entry = parseEntry(written, "x.conf");
  expect(entry).toEqual({
    title: "Debian GNU/Linux 13 (trixie)",
    version: "13",
    target: {
      kind: "linux",
      linux: "/EFI/Linux/bootc_composefs-aa/vmlinuz",
      initrds: ["/EFI/Linux/bootc_composefs-aa/initrd"],
    },
    options: "root=UUID=1 rw composefs=aa",
    machineId: null,
    sortKey: "bootc-debian-0",
    extra: [],
  });
  expect(formatEntry(entry)).toBe(written);
});

test("comments, tabs, several initrds and options, unknown keys", () => {
  const entry = parseEntry(
    "# c\n\n version\t1 \nlinux  /v\ninitrd /a\ninitrd /b\noptions a\noptions b c\ngrub_class x\nempty\n",
    "x",
  );
  expect(entry.target).toEqual({ kind: "linux", linux: "/v", initrds: ["/a", "/b"] });
  expect(entry.options).toBe("a b c");
  expect(entry.extra).toEqual([["grub_class", "x"]]);
});

test("an extension's key without a value says something by being there", () => {
  const text = "version 1\nlinux /k\nx-options-source-tuned\n";
  const entry = parseEntry(text, "x");
  expect(entry.extra).toEqual([["x-options-source-tuned", ""]]);
  expect(formatEntry(entry)).toBe(text);
});

test.each([
  ["nothing to boot", "title x\nversion 1\n", "exactly one of linux, efi, uki; it has 0"],
  ["two things to boot", "version 1\nlinux /a\nefi /b\n", "it has 2"],
  ["a key twice", "version 1\nversion 2\nlinux /a\n", '"version" twice'],
  ["a NUL", "version 1\0\nlinux /a\n", "NUL"],
  ["a huge file", `#${"x".repeat(300_000)}`, "256 KiB"],
])("refuses %s", (_, text, message) => {
  expect(() => parseEntry(text, "x.conf")).toThrow(FormatError);
  expect(() => parseEntry(text, "x.conf")).toThrow(message);
});

test("a line separator of Unicode is part of a value, a carriage return ends the line (found by fuzzing)", () => {
  const entry = parseEntry("title a\u2028b\rlinux /k\r\nversion x\u2029", "x");
  expect(entry).toMatchObject({ title: "a\u2028b", target: { linux: "/k" }, version: "x" });
  expect(parseEntry(formatEntry(entry), "y")).toEqual(entry);
});

test("refuses to write a value with a line break", () => {
  const entry = { ...parseEntry(written, "x"), title: "a\nlinux /evil" };
  expect(() => formatEntry(entry)).toThrow("line break");
});

const word = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);
const path = word.filter((text) => !text.startsWith("#"));
const entryArbitrary: fc.Arbitrary<BlsEntry> = fc.record({
  title: fc.option(word),
  version: fc.option(word),
  target: fc.oneof(
    fc.record({ kind: fc.constant("linux" as const), linux: path, initrds: fc.array(path) }),
    fc.record({
      kind: fc.constant("efi" as const),
      key: fc.constantFrom("efi" as const, "uki" as const),
      path,
    }),
  ),
  options: fc.oneof(word, fc.constant("")),
  machineId: fc.option(word),
  sortKey: fc.option(word),
  extra: fc.array(fc.tuple(fc.stringMatching(/^x-[a-z]{1,8}$/), word)),
});

test("parse(format(entry)) is the entry", () => {
  fc.assert(
    fc.property(entryArbitrary, (entry) => {
      // Initrds of an EFI entry are not part of the model.
      expect(parseEntry(formatEntry(entry), "x")).toEqual(entry);
    }),
  );
});

describe("menu order, as measured with systemd-boot 257", () => {
  const entry = (
    id: string,
    sortKey: string | null,
    version: string | null,
    triesLeft: number | null = null,
  ) => ({ id, sortKey, version, machineId: null, triesLeft });
  const menu = [
    entry("g4", "bootc-debian-0", "13"),
    entry("g3", "bootc-debian-0", "13", 3),
    entry("g2", "bootc-debian-0", "13", 2),
    entry("g1", "bootc-debian-0", "12"),
    entry("g7", "bootc-debian-1", "99"),
    entry("zz", null, null),
    entry("g6", "aaa", "1", 0),
    entry("g5", "bootc-debian-0", "13", 0),
  ];
  test("holds from any starting order", () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(menu, { minLength: menu.length }), (shuffled) => {
        expect([...shuffled].sort(compareEntries).map((e) => e.id)).toEqual(menu.map((e) => e.id));
      }),
    );
  });
  test("machine-id decides between equal sort keys", () => {
    const a = { ...entry("x", "k", "1"), machineId: "a" };
    const b = { ...entry("y", "k", "9"), machineId: "b" };
    expect(compareEntries(a, b)).toBeLessThan(0);
  });
});
