// Fuzz target: a layer of a hostile image, all the way: tar entries, file tree, the reading of its
// os-release, kernel, kargs.d and SELinux policy, both transformations, the boot image and back.

import { createHash } from "node:crypto";
import { readErofs } from "../../../shared/format/erofs/reader.ts";
import { writeErofs } from "../../../shared/format/erofs/writer.ts";
import type { TarEntry } from "../../../shared/format/tar/entry.ts";
import { TarReader } from "../../../shared/format/tar/reader.ts";
import type { DirectoryNode, FileContent, FileNode } from "../../../shared/format/tree/node.ts";
import { objectPath } from "../../../shared/format/verity/digest.ts";
import { readKargs } from "../../../updater/image/boot-image.ts";
import { findBootKernel } from "../../../updater/image/boot-kernel.ts";
import { applyEntry, createRoot } from "../../../updater/image/layer-tree.ts";
import { readOsRelease } from "../../../updater/image/os-release.ts";
import { transformForBoot, transformForOci } from "../../../updater/image/transform.ts";
import type { Random } from "../../support/random-dump.ts";
import { paxMember, TAR_END, type TarMember, tarMember } from "../../support/tar-builder.ts";
import { printTree } from "../print-tree.ts";
import { changeTarHeader, fixTarChecksums } from "../tar-blocks.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

const CONTEXTS = "etc/selinux/targeted/contexts/files";
const directories = (...names: readonly string[]): TarMember[] =>
  names.map((name) => ({ name, type: "5", mode: 0o755 }));
const BASE: readonly TarMember[] = [
  ...directories(
    "./",
    "usr/",
    "usr/lib/",
    "usr/lib/modules",
    "usr/lib/modules/6.1",
    "boot",
    "sysroot",
    "run",
  ),
  { name: "usr/lib/os-release", content: "NAME='x y'\nVERSION_ID=\"1\\$2\"\nID=debian\n" },
  { name: "usr/lib/modules/6.1/vmlinuz", content: "k".repeat(100) },
  { name: "usr/lib/modules/6.1/initramfs.img", content: "i" },
];
const POLICY: readonly TarMember[] = [
  ...directories(
    "etc",
    "etc/selinux",
    "etc/selinux/targeted",
    "etc/selinux/targeted/contexts",
    CONTEXTS,
  ),
  { name: "etc/selinux/config", content: "SELINUXTYPE=targeted\n" },
  {
    name: `${CONTEXTS}/file_contexts`,
    content: "/.* s:default\n/usr(/.*)? -d s:usr\n/etc/[^/]+\\.conf -- s:conf\n/run <<none>>\n",
  },
  { name: `${CONTEXTS}/file_contexts.subs_dist`, content: "/sysroot /usr\n" },
];
const KARGS: readonly TarMember[] = [
  ...directories("usr/lib/bootc", "usr/lib/bootc/kargs.d"),
  { name: "usr/lib/bootc/kargs.d/a.toml", content: 'kargs = ["quiet"]\n' },
];
const ODD: readonly TarMember[] = [
  { name: "usr/l", type: "2", linkName: "../../lib" },
  { name: "usr/h", type: "1", linkName: "usr/lib/os-release" },
  { name: "usr/.wh.l" },
  { name: "usr/null", type: "3", device: [0, 0] },
  { name: "usr/lib/.wh..wh..opq" },
];
const RULES = `/.* s:default
(/a|/b)/c s:either
/usr/(lib|share)(/.*)? -d s:usr
/usr/lib/[[:alpha:]_]+-release -- s:release
/dev/[^]/x]+ -c s:char
/usr/\\.x\\d{1,2}? -l s:link
/null? -b s:block
/boot/EFI/.*\\.efi -- s:efi
`;
const UNIFIED: readonly TarMember[] = [
  ...directories("boot/EFI", "boot/EFI/Linux", "dev", "usr/share"),
  { name: "boot/EFI/Linux/x.addon.efi", content: "a" },
  { name: "boot/EFI/Linux/x.efi", content: "u".repeat(80) },
  { name: "dev/block", type: "4", device: [8, 1] },
  { name: "dev/fifo", type: "6" },
  { name: "etc/os-release", type: "2", linkName: "../usr/lib/os-release" },
  { name: "usr/lib/os-release", type: "2", linkName: "/../usr/./share/os" },
  { name: "usr/share/os", content: "ID=uki\n" },
  { name: "etc/link", type: "1", linkName: "usr/share/os" },
  { name: `${CONTEXTS}/file_contexts.local`, content: RULES },
];
const ENTRIES: readonly TarMember[] = [
  ...directories("boot/loader", "boot/loader/entries"),
  { name: "boot/loader/entries/a.conf", content: "linux /k\n" },
];

const WORDS = [
  ..."usr/|lib/|boot/|etc/|sysroot|run|.wh.|.wh..wh..opq|../|./|//|os-release|vmlinuz|.efi".split(
    "|",
  ),
  ..."SELINUXTYPE=|[[:alpha:]]|[^]x]|(/.*)?| -- | -d |<<none>>|\\|(|)|{1,9}|*|+|?|\n|'|\"|=|#".split(
    "|",
  ),
];

export const target: FuzzTarget = {
  focus:
    /^updater\/image\/(layer-tree|os-release|boot-kernel|selinux|selinux-policy|transform|tree-lookup)\.ts/,
  maxBytes: 24_576,
  mutate: (bytes, random) =>
    random.chance(40) ? changeTarHeader(bytes, random) : overwriteText(bytes, random),
  repair: fixTarChecksums,
  *seeds() {
    for (const extra of [[], POLICY, KARGS, ODD, [...POLICY, ...UNIFIED], ENTRIES]) {
      const members = [...BASE, ...extra];
      yield Buffer.concat([...members.map(tarMember), TAR_END]);
    }
    const xattrs = paxMember([
      ["SCHILY.xattr.security.capability", "x"],
      ["path", "usr/cap"],
    ]);
    const base = BASE.map(tarMember);
    yield Buffer.concat([...base, xattrs, tarMember({ name: "c", content: "x" }), TAR_END]);
  },
  check(input) {
    const contents = new Map<string, Uint8Array>();
    const root = readLayer(input, contents);
    const readFile = ({ content }: FileNode) =>
      content.kind === "inline" ? content.bytes : contents.get(content.digest!)!;
    // Each may refuse in its own documented way.
    attempt(() => findBootKernel(root));
    attempt(() => readOsRelease(root, readFile));
    attempt(() => readKargs(root, readFile));
    transformForOci(root);
    transformForBoot(root, readFile);
    checkImage(root);
    return true;
  },
};

/** Puts a word over text, so that the blocks stay where they are. */
function overwriteText(bytes: Uint8Array, random: Random): Uint8Array | null {
  const texts = [
    ...Buffer.from(bytes)
      .toString("latin1")
      .matchAll(/[ -~\n]{4,}/g),
  ];
  if (texts.length === 0) return null;
  const text = random.pick(texts);
  const at = text.index + random.below(text[0].length);
  bytes.set(Buffer.from(random.pick(WORDS), "latin1").subarray(0, bytes.length - at), at);
  return bytes;
}

function readLayer(input: Uint8Array, contents: Map<string, Uint8Array>): DirectoryNode {
  const root = createRoot();
  const pieces: Buffer[] = [];
  let waiting: TarEntry | null = null;
  const apply = (entry: TarEntry, bytes: Buffer) => applyEntry(root, entry, store(bytes, contents));
  const reader = new TarReader({
    raw: () => {},
    entry: (entry) => {
      if (entry.sizeBytes > 0) waiting = entry;
      else apply(entry, Buffer.alloc(0));
    },
    content: (bytes) => void pieces.push(Buffer.from(bytes)),
    contentEnd: () => apply(waiting!, Buffer.concat(pieces.splice(0))),
  });
  reader.write(input);
  reader.finish();
  return root;
}

/** Up to 64 bytes lie in the tree. */
function store(bytes: Buffer, contents: Map<string, Uint8Array>): FileContent {
  if (bytes.length <= 64) return { kind: "inline", bytes };
  const digest = createHash("sha512").update(bytes).digest("hex");
  contents.set(digest, bytes);
  return { kind: "external", sizeBytes: bytes.length, digest, payload: objectPath(digest) };
}

function checkImage(root: DirectoryNode): void {
  const image = attempt(() => writeErofs(root, { version: 1, dialect: "rust" }, "sha512"));
  if ("error" in image) return;
  const read = readErofs(image.value, { dialect: "rust" });
  checkEqual(printTree(read.root, "rust"), printTree(root, "rust"), "Tree of the boot image");
}
