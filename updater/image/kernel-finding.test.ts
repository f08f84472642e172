import { expect, test } from "vitest";
import { type KernelFinding, KernelSearch } from "./kernel-finding.ts";

const VMLINUZ = "usr/lib/modules/6.1/vmlinuz";
const INITRAMFS = "usr/lib/modules/6.1/initramfs.img";

/** Each table as name -> size; names in `stored` are here already. */
async function search(
  tables: readonly Readonly<Record<string, number>>[],
  stored: readonly string[] = [],
): Promise<KernelFinding> {
  const kernel = new KernelSearch();
  for (const table of tables) {
    const files = Object.entries(table).map(([name, sizeBytes]) => ({
      ...{ name, sizeBytes, digest: `sha256:${name}` },
      ...{ startByte: 0, endByte: 1 },
    }));
    const content = { kind: "object", digest: "x" } as const;
    kernel.addTable(files, new Map(stored.map((name) => [`sha256:${name}`, content])));
  }
  return await kernel.finish(null);
}

test.each<[string, Readonly<Record<string, number>>[], readonly string[], KernelFinding]>([
  ["no table", [], [], { kind: "unknown" }],
  ["no kernel in it", [{ "usr/bin/sh": 5 }], [], { kind: "unknown" }],
  ["only half of it", [{ [VMLINUZ]: 5 }], [], { kind: "unknown" }],
  [
    "both",
    [{ [VMLINUZ]: 5, [INITRAMFS]: 7, "usr/lib/modules/6.1/modules.dep": 100 }],
    [],
    { kind: "known", sizeBytes: 12, isStored: false },
  ],
  [
    "a unified one goes before, and is never shared",
    [
      { [VMLINUZ]: 5, [INITRAMFS]: 7, "boot/EFI/Linux/b.efi": 50 },
      { "./boot/EFI/Linux/a.efi": 40, "boot/EFI/Linux/a.addon.efi": 1 },
    ],
    ["boot/EFI/Linux/b.efi", "./boot/EFI/Linux/a.efi"],
    { kind: "known", sizeBytes: 40, isStored: false },
  ],
  [
    "in two layers",
    [{ [`./${VMLINUZ}`]: 5 }, { [`/${INITRAMFS}`]: 7 }],
    [],
    { kind: "known", sizeBytes: 12, isStored: false },
  ],
  [
    "one of them stored",
    [{ [VMLINUZ]: 5, [INITRAMFS]: 7 }],
    [VMLINUZ],
    { kind: "known", sizeBytes: 12, isStored: false },
  ],
  [
    "both stored",
    [{ [VMLINUZ]: 5, [INITRAMFS]: 7 }],
    [INITRAMFS, VMLINUZ],
    { kind: "known", sizeBytes: 12, isStored: true },
  ],
  [
    "the same file again in a later layer",
    [{ [VMLINUZ]: 5, [INITRAMFS]: 7 }, { [INITRAMFS]: 9 }],
    [],
    { kind: "known", sizeBytes: 14, isStored: false },
  ],
  [
    "another version in a later layer",
    [
      { [VMLINUZ]: 5, [INITRAMFS]: 7 },
      { "usr/lib/modules/6.2/vmlinuz": 50, "usr/lib/modules/6.2/initramfs.img": 70 },
    ],
    [],
    { kind: "known", sizeBytes: 120, isStored: false },
  ],
  [
    "in other places",
    [{ "boot/vmlinuz": 5, "usr/lib/modules/vmlinuz": 7 }],
    [],
    { kind: "unknown" },
  ],
])("%s", async (_, tables, stored, finding) => {
  expect(await search(tables, stored)).toEqual(finding);
});
