// Scratch images with unified kernels made by hand: sealed with the digest of their own tree, or without a command
// line; with addons, addons for every kernel, and the listing that sealing writes.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { buildImage, readRootTree } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { type ScratchImage, writeScratchImage } from "./scratch-image.ts";
import type { TarMember } from "./tar-builder.ts";
import { buildUki, type UkiSections } from "./uki-builder.ts";

export interface UnifiedScratchImage extends ScratchImage {
  /** Null: without one. "ID" stands for the id of the tree, "ID2" for that in the other format. */
  readonly cmdline: string | null;
  /** Of its addons, what each adds to the command line. */
  readonly addons?: Readonly<Record<string, string>>;
  /** The contents of addons for every kernel. */
  readonly globalAddons?: Readonly<Record<string, string>>;
  /** The listing is that of the tree with these members instead. */
  readonly dumpOf?: readonly TarMember[];
  /** Public keys in PEM, in the kernel's section `.bkeys`. */
  readonly ownKeys?: string;
  /** Makes the signed kernel of the plain one. */
  readonly signUki?: (uki: Uint8Array) => Uint8Array;
  /** Below the image's root, without ".efi". */
  readonly place?: string;
}

export interface SealedIds {
  readonly id: string;
  readonly id2: string;
  readonly dump: string;
}

/** What sealing an image of these files would find out. */
export async function measureScratchImage(image: ScratchImage): Promise<SealedIds> {
  const directory = mkdtempSync(join(tmpdir(), "seal-"));
  try {
    const layout = join(directory, "os.oci");
    writeScratchImage(layout, image);
    using repo = ensureRepository(null, join(directory, "repo"), {
      algorithm: "sha512",
      secure: false,
    });
    const pulled = await pullImage(repo, openSource(makeImageReference("oci", layout)));
    const layers = pulled.config.rootfs.diff_ids;
    const idOf = async (version: 1 | 2) =>
      computeVerityDigest(await buildImage(repo, layers, { bootable: true, version }), "sha512");
    const tree = await readRootTree(repo, layers, { bootable: true });
    const dump = [...formatDump(tree, { dialect: "rust" })].join("");
    return { id: await idOf(1), id2: await idOf(2), dump };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Fills `path`; the ids are those of the tree, whatever the kernel says. */
export async function writeUnifiedImage(
  path: string,
  image: UnifiedScratchImage,
): Promise<SealedIds & { readonly manifestDigest: string }> {
  const { members = [], place = "boot/EFI/Linux/os" } = image;
  const ids = await measureScratchImage(image);
  const dump =
    image.dumpOf && (await measureScratchImage({ ...image, members: image.dumpOf })).dump;
  const cmdline = image.cmdline?.replaceAll("ID2", ids.id2).replaceAll("ID", ids.id) ?? null;
  const { signUki = (uki: Uint8Array) => uki } = image;
  const uki = signUki(buildUki(kernelSections(image, cmdline)));
  const addons = Object.entries(image.addons ?? {});
  const globalAddons = Object.entries(image.globalAddons ?? {});
  const files = [
    { name: `${place}.efi`, content: Buffer.from(uki) },
    ...(dump === undefined ? [] : [{ name: `${place}.efi.dump`, content: dump }]),
    ...addons.map(([name, text]) => ({
      name: `${place}.efi.extra.d/${name}`,
      content: Buffer.from(buildUki([[".cmdline", text]])),
    })),
    ...globalAddons.map(([name, text]) => ({
      name: `boot/loader/addons/${name}`,
      content: Buffer.from(buildUki([[".initrd", text]])),
    })),
  ];
  const manifestDigest = writeScratchImage(path, {
    ...image,
    members: [...members, ...listParents(files.map(({ name }) => name)), ...files],
  });
  return { ...ids, manifestDigest };
}

function kernelSections(
  { version, kernel, ownKeys }: UnifiedScratchImage,
  cmdline: string | null,
): UkiSections {
  return [
    ...(ownKeys === undefined ? [] : [[".bkeys", ownKeys] as const]),
    [".osrel", `ID=fedora\nVERSION_ID=${version}\nPRETTY_NAME="Fedora"\n`],
    ...(cmdline === null ? [] : [[".cmdline", cmdline] as const]),
    [".linux", `kernel ${kernel ?? version}`.repeat(40)],
    [".initrd", `initramfs ${kernel ?? ""}`.repeat(50)],
  ];
}

/** Directories that a scratch image does not have by itself. */
function listParents(names: readonly string[]): readonly TarMember[] {
  const parents = names.flatMap((name) => {
    const parts = name.split("/").slice(0, -1);
    return parts.map((_, depth) => `${parts.slice(0, depth + 1).join("/")}/`);
  });
  const known = /^(?:boot|usr|usr\/lib|usr\/lib\/modules|usr\/lib\/modules\/[^/]+)\/$/;
  return [...new Set(parents)]
    .filter((name) => !known.test(name))
    .sort()
    .map((name) => ({ name, type: "5", mode: 0o755 }));
}
