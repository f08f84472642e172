// Kernel discovery, tree lookup and os-release.

import { describe, expect, test } from "vitest";
import type { FileNode } from "../../shared/format/tree/node.ts";
import { makeTree } from "../../test/support/tree-builder.ts";
import { type BootKernel, findBootKernel } from "./boot-kernel.ts";
import { readOsRelease } from "./os-release.ts";
import { lookup } from "./tree-lookup.ts";

const text = (file: FileNode): string =>
  file.content.kind === "inline" ? Buffer.from(file.content.bytes).toString() : "";
const describeKernel = (kernel: BootKernel): string =>
  kernel.kind === "bls"
    ? `bls ${kernel.version} ${text(kernel.vmlinuz)} ${text(kernel.initramfs)}`
    : `uki ${kernel.version} ${kernel.fileName} ${text(kernel.file)}`;

const modules = "usr/lib/modules";
const plain = { [`${modules}/6.1/vmlinuz`]: "k", [`${modules}/6.1/initramfs.img`]: "i" };

describe("the kernel", () => {
  test.each<[string, Record<string, string>, string]>([
    ["vmlinuz and initramfs", plain, "bls 6.1 k i"],
    [
      "first version by name",
      { ...plain, [`${modules}/5.9/vmlinuz`]: "K", [`${modules}/5.9/initramfs.img`]: "I" },
      "bls 5.9 K I",
    ],
    [
      "directories without a kernel do not count",
      { ...plain, [`${modules}/5.0/modules.dep`]: "" },
      "bls 6.1 k i",
    ],
    [
      "symlinks inside the image",
      {
        [`${modules}/6.1/vmlinuz`]: "-> ../../../../boot/vmlinuz-6.1",
        "boot/vmlinuz-6.1": "k",
        [`${modules}/6.1/initramfs.img`]: "-> /boot/i",
        "boot/i": "i",
      },
      "bls 6.1 k i",
    ],
    [
      "unified image in modules before vmlinuz",
      { ...plain, [`${modules}/6.1/linux.efi`]: "u" },
      "uki 6.1 linux.efi u",
    ],
    [
      "unified image in /boot first",
      {
        ...plain,
        [`${modules}/6.1/linux.efi`]: "u",
        "boot/EFI/Linux/os-2.efi": "U",
        "boot/EFI/Linux/a.addon.efi": "A",
      },
      "uki os-2 os-2.efi U",
    ],
    ["below a directory", { "boot/EFI/Linux/sub/os.efi": "U" }, "uki os os.efi U"],
  ])("%s", (_name, files, expected) => {
    expect(describeKernel(findBootKernel(makeTree(files)))).toBe(expected);
  });

  test.each<[string, Record<string, string>, RegExp]>([
    ["none", { "usr/bin/x": "" }, /has no kernel/],
    ["no initramfs", { [`${modules}/6.1/vmlinuz`]: "k" }, /6\.1 without .*initramfs\.img/],
    [
      "boot entries in the image",
      { ...plain, "boot/loader/entries/x.conf": "" },
      /entries\/x\.conf/,
    ],
    [
      "symlink out of the image",
      { [`${modules}/6.1/vmlinuz`]: "-> ../../../../../../../boot/x" },
      /has no kernel/,
    ],
  ])("%s is refused", (_name, files, message) => {
    expect(() => findBootKernel(makeTree(files))).toThrow(message);
  });
});

describe("what comes with a unified kernel", () => {
  const found = (files: Record<string, string>) => {
    const kernel = findBootKernel(makeTree({ "boot/EFI/Linux/os.efi": "U", ...files }));
    if (kernel.kind !== "uki") throw new Error("plain");
    const names = (list: typeof kernel.addons) => list.map(({ name, file }) => [name, text(file)]);
    return {
      path: kernel.path,
      addons: names(kernel.addons),
      global: names(kernel.globalAddons),
      dump: kernel.dump && [kernel.dump.name, text(kernel.dump.file)],
    };
  };
  const nothing = { path: "/boot/EFI/Linux/os.efi", addons: [], global: [], dump: null };
  const own = "boot/EFI/Linux/os.efi.extra.d";
  test.each<[string, Record<string, string>, Partial<typeof nothing> | object]>([
    ["nothing", {}, {}],
    [
      "its addons by name, and nothing else from there",
      { [`${own}/b.addon.efi`]: "B", [`${own}/a.addon.efi`]: "A", [`${own}/x.cred`]: "" },
      {
        addons: [
          ["a.addon.efi", "A"],
          ["b.addon.efi", "B"],
        ],
      },
    ],
    ["another kernel's", { "boot/EFI/Linux/other.efi.extra.d/a.addon.efi": "A" }, {}],
    [
      "addons for every kernel, if they are ours",
      { "boot/loader/addons/bootc-x.addon.efi": "X", "boot/loader/addons/y.addon.efi": "Y" },
      { global: [["bootc-x.addon.efi", "X"]] },
    ],
    ...["boot/EFI/Linux/os.efi.dump", "boot/os.efi.dump", "boot/os.dump"].map(
      (name): [string, Record<string, string>, object] => [
        name,
        { [name]: "D", "boot/z.dump": "" },
        { dump: [`/${name}`, "D"] },
      ],
    ),
  ])("%s", (_, files, expected) => {
    expect(found(files)).toEqual({ ...nothing, ...expected });
  });

  test.each([
    [
      { [`${own}/a b.addon.efi`]: "" },
      /a b.addon.efi" of the image cannot be written .*use letters/,
    ],
    [{ [`${own}/${"x".repeat(200)}.addon.efi`]: "" }, /use letters, digits/],
    [{ [`${own}/a.addon.efi`]: "", [`${own}/A.addon.efi`]: "" }, /differs in case only/],
  ])("refused: %j", (files, message) => {
    expect(() => found(files)).toThrow(message);
  });
});

test.each<[string, string | null]>([
  ["a/f", "1"],
  ["/a//./f", "1"],
  ["b/f", "1"],
  ["b/../a/f", "1"],
  ["../../a/f", "1"],
  ["up/f", "1"],
  ["chain", "1"],
  ["loop", null],
  ["a/f/x", null],
  ["missing/f", null],
])("lookup %s", (path, expected) => {
  const root = makeTree({
    "a/f": "1",
    b: "-> a",
    up: "-> /../a",
    chain: "-> b/f",
    loop: "-> loop",
  });
  const node = lookup(root, path);
  expect(node?.kind === "file" ? text(node) : null).toBe(expected);
});

describe("os-release", () => {
  const read = (files: Record<string, string>): Record<string, string> =>
    Object.fromEntries(readOsRelease(makeTree(files), (file) => Buffer.from(text(file))));
  test("values and quotes", () => {
    expect(
      read({
        "usr/lib/os-release":
          '# c\nID=debian\nNAME="De\\"b"\nA=\'x\\y\'\nB=a"b c"d\nBAD="x\nID=last\nno line\nE=\n',
      }),
    ).toEqual({ ID: "last", NAME: 'De"b', A: "x\\y", B: "ab cd", E: "" });
  });
  test("/etc/os-release when /usr/lib has none, symlinks followed", () => {
    expect(read({ "etc/os-release": "-> ../opt/os", "opt/os": "ID=x" })).toEqual({ ID: "x" });
    expect(read({})).toEqual({});
  });
});
