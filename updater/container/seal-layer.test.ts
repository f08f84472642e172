import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import {
  type DirectoryNode,
  fromByteString,
  NO_XATTRS,
  S_IFDIR,
  S_IFREG,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { findBootKernel } from "../image/boot-kernel.ts";
import { applyEntry } from "../image/layer-tree.ts";
import { chooseSealKernel } from "./seal-kernel.ts";
import { listHidden, makeMembers, writeMembers } from "./seal-layer.ts";

const scratch = mkdtempSync(join(tmpdir(), "seal-layer-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const NONE = { kind: "inline", bytes: new Uint8Array(0) } as const;
const PLAIN = ["usr/lib/modules/6.12/vmlinuz", "usr/lib/modules/6.12/initramfs.img"];
const SEALED = [
  "boot/EFI/Linux/6.12.efi",
  "boot/EFI/Linux/6.12.efi.dump",
  "boot/EFI/Linux/6.12.efi.extra.d/a.addon.efi",
  "boot/loader/addons/bootc-runtime-0.addon.efi",
  "boot/loader/addons/other.addon.efi",
];

/** Each directory has a time and an owner of its own. */
function makeTree(paths: readonly string[]): DirectoryNode {
  let count = 0;
  const directory = (): DirectoryNode => ({
    kind: "directory",
    mode: S_IFDIR | 0o751,
    uid: ++count,
    gid: 7,
    mtimeSec: 1_700_000_000 + count,
    mtimeNsec: count,
    xattrs: new Map([["user.n", new Uint8Array([count])]]),
    entries: new Map(),
  });
  const root = directory();
  for (const path of ["usr/x", "boot/x", ...paths]) {
    const names = path.split("/").map(toByteString);
    let at = root;
    for (const name of names.slice(0, -1)) {
      const child = at.entries.get(name) ?? directory();
      at.entries.set(name, child);
      at = child as DirectoryNode;
    }
    const common = { uid: 0, gid: 0, mtimeSec: 1, mtimeNsec: 0, xattrs: NO_XATTRS, nlink: 1 };
    at.entries.set(names.at(-1)!, {
      kind: "file",
      mode: S_IFREG | 0o644,
      ...common,
      content: NONE,
    });
  }
  return root;
}

function list(node: TreeNode, path = ""): string[] {
  if (node.kind !== "directory") return [path];
  return [...node.entries].flatMap(([name, child]) =>
    list(child, `${path}${path === "" ? "" : "/"}${fromByteString(name)}`),
  );
}

/** Attributes of the directories below /usr. */
function describeUsr(node: TreeNode, path = "usr"): string[] {
  if (node.kind !== "directory") return [];
  const { mode, uid, gid, mtimeSec, mtimeNsec, xattrs } = node;
  const own = JSON.stringify([path, mode, uid, gid, mtimeSec, mtimeNsec, [...xattrs]]);
  return [
    own,
    ...[...node.entries].flatMap(([name, child]) => describeUsr(child, `${path}/${name}`)),
  ];
}

/** The tree with the layer on it, read back from its tar. */
function seal(paths: readonly string[], options: { reseal: boolean }) {
  const tree = makeTree(paths);
  const kernel = chooseSealKernel(tree, options);
  const hidden = listHidden(tree, kernel);
  const file = join(scratch, "file");
  writeFileSync(file, "content");
  const files = ["", ".dump", ".extra.d/b.addon.efi"].map((suffix) => ({
    path: `boot/EFI/Linux/${kernel.version}.efi${suffix}`,
    file,
  }));
  const members = makeMembers(tree, { hidden, files });
  const entries: TarEntry[] = [];
  const reader = new TarReader({
    raw: () => {},
    entry: (entry) => void entries.push(entry),
    content: () => {},
    contentEnd: () => {},
  });
  const tar = Buffer.concat([...writeMembers(members)]);
  reader.write(tar);
  reader.finish();
  const before = describeUsr(tree.entries.get("usr")!);
  for (const entry of entries) applyEntry(tree, entry, NONE);
  expect(describeUsr(tree.entries.get("usr")!)).toEqual(before);
  return { tree, tar, files: list(tree).sort(), kernel };
}

const OTHERS = ["boot/x", "usr/x"];

describe("the layer that seals", () => {
  test("takes the kernel away and adds the unified one; /usr keeps its times and owners", () => {
    const { files, tree } = seal(PLAIN, { reseal: false });
    expect(files).toEqual([
      "boot/EFI/Linux/6.12.efi",
      "boot/EFI/Linux/6.12.efi.dump",
      "boot/EFI/Linux/6.12.efi.extra.d/b.addon.efi",
      ...OTHERS,
    ]);
    expect(findBootKernel(tree)).toMatchObject({ kind: "uki", version: "6.12" });
  });

  test("is the same for the same files", () => {
    const [one, two] = [seal(PLAIN, { reseal: false }), seal(PLAIN, { reseal: false })];
    expect(one.tar.equals(two.tar)).toBe(true);
  });

  test("a sealed image is refused", () => {
    expect(() => seal(SEALED, { reseal: false })).toThrow(
      'is sealed already, with "/boot/EFI/Linux/6.12.efi"',
    );
  });

  test("sealing anew replaces kernel and listing, and takes our own addon away", () => {
    const { files } = seal(SEALED, { reseal: true });
    expect(files).toEqual([
      "boot/EFI/Linux/6.12.efi",
      "boot/EFI/Linux/6.12.efi.dump",
      "boot/EFI/Linux/6.12.efi.extra.d/a.addon.efi",
      "boot/EFI/Linux/6.12.efi.extra.d/b.addon.efi",
      "boot/loader/addons/other.addon.efi",
      ...OTHERS,
    ]);
  });

  test("a kernel that was installed since takes the place of the unified one", () => {
    const newer = PLAIN.map((path) => path.replace("6.12", "6.13"));
    const { files, kernel } = seal([...SEALED, ...newer], { reseal: true });
    expect(kernel.version).toBe("6.13");
    expect(files).toEqual([
      "boot/EFI/Linux/6.13.efi",
      "boot/EFI/Linux/6.13.efi.dump",
      "boot/EFI/Linux/6.13.efi.extra.d/b.addon.efi",
      "boot/loader/addons/other.addon.efi",
      ...OTHERS,
    ]);
  });

  test.each(["-rf", "--output=x", "@x", "a b", ".x"])(
    "a kernel called %j is refused",
    (release) => {
      const paths = PLAIN.map((path) => path.replace("6.12", release));
      expect(() => seal(paths, { reseal: false })).toThrow("no name of a kernel release");
    },
  );

  test("a unified kernel that its own digest would cover is refused", () => {
    const paths = ["usr/lib/modules/6.12/linux.efi"];
    expect(() => seal(paths, { reseal: true })).toThrow("which its own digest would cover");
  });
});
