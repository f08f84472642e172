// What an image's initramfs has in it: the program that mounts the root, and the same trust directory as the image. The
// two can differ when somebody changed the directory and did not run dracut again.

import { describeError, FormatError } from "../../shared/error.ts";
import { type DirectoryNode, fromByteString } from "../../shared/format/tree/node.ts";
import { TRUST_DIRECTORY } from "../../shared/trust/anchors.ts";
import { openFileContent } from "../image/file-content.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { EPHEMERAL_KEY_PATH } from "./ephemeral-key.ts";
import { type InitramfsContents, scanInitramfs } from "./initramfs-scan.ts";
import { RUNTIME_PREFIX } from "./runtime-addon.ts";
import type { Notes, VerifiedImage } from "./verify-notes.ts";

const OWN_DIRECTORY = "usr/lib/bootc/";
const PROGRAM = "usr/lib/bootc/prepare-root";

export async function checkInitramfs(image: VerifiedImage, notes: Notes): Promise<void> {
  const { kernel } = image;
  if (kernel === null) return;
  try {
    const contents = await scanKernel(image);
    if (contents.compression === "other") {
      notes.warnings.push(
        "The initramfs was not looked into: only gzip and zstd are understood here",
      );
      return;
    }
    const runtime =
      kernel.kind === "uki" &&
      kernel.globalAddons.some(({ name }) => name.startsWith(RUNTIME_PREFIX));
    if (!contents.files.has(PROGRAM) && !runtime) {
      notes.warnings.push(
        `The initramfs has no "/${PROGRAM}": make it with dracut's module "bootc", unless another program mounts the root`,
      );
    }
    compareTrust(image, contents, notes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    notes.warnings.push(`The initramfs was not looked into: ${describeError(error)}`);
  }
}

async function scanKernel({ repo, kernel }: VerifiedImage): Promise<InitramfsContents> {
  if (kernel?.kind !== "uki") {
    const chunks = kernel === null ? [] : openFileContent(repo, kernel.initramfs);
    return await scanInitramfs(chunks, OWN_DIRECTORY);
  }
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  return await scanInitramfs(uki.readChunks(".initrd"), OWN_DIRECTORY);
}

function compareTrust(image: VerifiedImage, contents: InitramfsContents, notes: Notes): void {
  const expected = new Map<string, Uint8Array>();
  const directory = lookupDirectory(image.tree, TRUST_DIRECTORY);
  if (directory !== null) listFiles(image, directory, TRUST_DIRECTORY, expected);
  const ownKey = image.uki?.keys ?? null;
  if (ownKey !== null) expected.set(EPHEMERAL_KEY_PATH, Buffer.from(`${ownKey}\n`));
  const found = new Map(
    [...contents.files].filter(
      ([path, bytes]) => path.startsWith(`${TRUST_DIRECTORY}/`) && bytes !== null,
    ),
  );
  for (const path of [...new Set([...expected.keys(), ...found.keys()])].sort()) {
    const [inImage, inInitramfs] = [expected.get(path), found.get(path)];
    if (inImage !== undefined && inInitramfs != null && Buffer.compare(inImage, inInitramfs) === 0)
      continue;
    const problem =
      inImage === undefined
        ? "is in the initramfs, but not in the image"
        : inInitramfs == null
          ? "is in the image, but not in the initramfs"
          : "is another one in the initramfs than in the image";
    notes.findings.push(`"/${path}" ${problem}: run dracut again before sealing`);
  }
}

/** Regular files, but hidden ones, which count nowhere. */
function listFiles(
  image: VerifiedImage,
  directory: DirectoryNode,
  path: string,
  files: Map<string, Uint8Array>,
): void {
  for (const [name, node] of directory.entries) {
    const text = fromByteString(name);
    const below = `${path}/${text}`;
    if (text.startsWith(".")) continue;
    if (node.kind === "directory") listFiles(image, node, below, files);
    else if (node.kind === "file") files.set(below, image.readFile(node));
  }
}
