// What an image's initramfs has in it: the program that mounts the root, and the same trust directory as the image. The
// two can differ when somebody changed the directory and did not run dracut again.

import { describeError, FormatError } from "../../shared/error.ts";
import {
  type DirectoryNode,
  fromByteString,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../../shared/format/tree/node.ts";
import { TRUST_DIRECTORY } from "../../shared/trust/anchors.ts";
import type { BootKernel } from "../image/boot-kernel.ts";
import { openFileContent } from "../image/file-content.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { EPHEMERAL_KEY_PATH } from "./ephemeral-key.ts";
import { type InitramfsContents, scanInitramfs } from "./initramfs-scan.ts";
import { RUNTIME_PREFIX, runtimeAddonName } from "./runtime-addon.ts";
import { findOwnKey, withoutOwnKey } from "./seal-kernel.ts";
import { type Notes, note, type VerifiedImage } from "./verify-notes.ts";

const OWN_DIRECTORY = "usr/lib/bootc/";
const PROGRAM = "usr/lib/bootc/prepare-root";

export async function checkInitramfs(image: VerifiedImage, notes: Notes): Promise<void> {
  const { kernel } = image;
  // A unified kernel that cannot be read is a finding already.
  if (kernel === null || (kernel.kind === "uki" && image.uki === null)) return;
  if (!checkOwnKey(image, notes)) return;
  try {
    const contents = await scanKernel(image);
    if (contents.compression === "other") {
      notes.warnings.push(
        "The initramfs was not looked into: only gzip and zstd are understood here",
      );
      return;
    }
    checkProgram(kernel, contents, notes);
    compareTrust(image, contents, notes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    notes.warnings.push(`The initramfs was not looked into: ${describeError(error)}`);
  }
}

/** An initramfs that leaves the program to an addon has a link to where that will put it. */
function checkProgram(kernel: BootKernel, { files }: InitramfsContents, notes: Notes): void {
  const program = files.get(PROGRAM);
  const target = Buffer.from(program?.bytes ?? "").toString("utf8");
  const isLink = program !== undefined && (program.mode & S_IFMT) === S_IFLNK;
  const digest = isLink ? /^runtime\/([0-9a-f]{64})\/prepare-root$/.exec(target)?.[1] : undefined;
  const addons = kernel.kind === "uki" ? kernel.globalAddons.map(({ name }) => name) : [];
  const hasRuntime = addons.some((name) => name.startsWith(RUNTIME_PREFIX));
  if (program === undefined) {
    notes.warnings.push(
      `The initramfs has no "/${PROGRAM}": make it with dracut's module "bootc", unless another program mounts the root`,
    );
  } else if (digest !== undefined && !addons.includes(runtimeAddonName(digest))) {
    notes.findings.push(
      `The initramfs leaves "/${PROGRAM}" to the addon "${runtimeAddonName(digest)}", which the image lacks: seal it with "--shared-runtime"`,
    );
  } else if (digest === undefined && hasRuntime) {
    notes.warnings.push(
      `The initramfs has "/${PROGRAM}" itself, so the addon with it is of no use: set bootc_program=addon for dracut`,
    );
  }
}

/** False, and a finding, when the unified kernel has a key that its initramfs lacks. */
function checkOwnKey({ repo, kernel }: VerifiedImage, notes: Notes): boolean {
  if (kernel?.kind !== "uki") return true;
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  return note(notes, () => findOwnKey(uki)) !== null;
}

/** A key of this image only lies behind everything else; whether it does is found out first. */
async function scanKernel({ repo, kernel, uki: trust }: VerifiedImage): Promise<InitramfsContents> {
  if (kernel?.kind !== "uki") {
    const chunks = kernel === null ? [] : openFileContent(repo, kernel.initramfs);
    return await scanInitramfs(chunks, OWN_DIRECTORY);
  }
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  const contents = await scanInitramfs(withoutOwnKey(uki), OWN_DIRECTORY);
  const key = trust?.keys ?? null;
  if (key === null) return contents;
  return {
    ...contents,
    files: new Map([
      ...contents.files,
      [EPHEMERAL_KEY_PATH, { mode: S_IFREG | 0o644, bytes: Buffer.from(`${key}\n`) }],
    ]),
  };
}

function compareTrust(image: VerifiedImage, contents: InitramfsContents, notes: Notes): void {
  const expected = new Map<string, Uint8Array>();
  const directory = lookupDirectory(image.tree, TRUST_DIRECTORY);
  if (directory !== null) listFiles(image, directory, TRUST_DIRECTORY, expected);
  const ownKey = image.uki?.keys ?? null;
  if (ownKey !== null) expected.set(EPHEMERAL_KEY_PATH, Buffer.from(`${ownKey}\n`));
  const found = new Map(
    [...contents.files].filter(
      ([path, { mode }]) => path.startsWith(`${TRUST_DIRECTORY}/`) && (mode & S_IFMT) !== S_IFDIR,
    ),
  );
  for (const path of [...new Set([...expected.keys(), ...found.keys()])].sort()) {
    const [inImage, inInitramfs] = [expected.get(path), found.get(path)?.bytes];
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
