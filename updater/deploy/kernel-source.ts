// The kernel and initramfs of a boot image, as they lie in the repository: their boot digest
// (bootc.md 4.5) and the steps that copy them to the boot partition.

import { dirname, join } from "node:path";
import { UnsupportedError } from "../../shared/error.ts";
import type { FileNode } from "../../shared/format/tree/node.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { Step } from "../../shared/txn/plan.ts";
import { type BootDirectory, kernelRoot } from "../boot/boot-layout.ts";
import type { BootImage } from "../image/boot-image.ts";
import { openFileContent } from "../image/file-content.ts";

export interface KernelFiles {
  readonly vmlinuz: FileNode;
  readonly initrd: FileNode;
}

/** UnsupportedError for a UKI: they come with sealed images. */
export function kernelFiles(image: BootImage): KernelFiles {
  if (image.kernel.kind !== "bls") {
    throw new UnsupportedError("feature", "Images with a unified kernel are not supported yet");
  }
  return { vmlinuz: image.kernel.vmlinuz, initrd: image.kernel.initramfs };
}

/** SHA-256 over vmlinuz followed by initrd; reads both, with their digests checked. */
export function computeBootDigest(repo: Repository, files: KernelFiles): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const file of [files.vmlinuz, files.initrd]) {
    for (const chunk of openFileContent(repo, file)) hasher.update(chunk);
  }
  return hasher.digest("hex");
}

export function kernelSizesBytes(files: KernelFiles): readonly number[] {
  return [fileSizeBytes(files.vmlinuz), fileSizeBytes(files.initrd)];
}

/** Steps that fill the kernel directory of this name. */
export function copyKernelSteps(
  physicalRoot: string,
  boot: BootDirectory,
  directory: string,
  files: KernelFiles,
): readonly Step[] {
  const parent = kernelRoot(boot);
  const target = join(parent, directory);
  return [
    // GRUB's kernels lie in the boot directory itself, so the parent's parent may not be ours to make.
    ...(parent === boot.path ? [] : [makeDirectory(dirname(parent)), makeDirectory(parent)]),
    makeDirectory(target),
    copyStep(physicalRoot, files.vmlinuz, join(target, "vmlinuz")),
    copyStep(physicalRoot, files.initrd, join(target, "initrd")),
    { kind: "sync", path: target },
    { kind: "sync", path: parent },
  ];
}

function makeDirectory(path: string): Step {
  return { kind: "mkdir", path, mode: 0o755 };
}

function copyStep(physicalRoot: string, { content }: FileNode, path: string): Step {
  if (content.kind === "inline") return { kind: "write", path, bytes: content.bytes, mode: 0o644 };
  const from = join(physicalRoot, "composefs/objects", objectPath(content.digest ?? ""));
  return { kind: "copy", from, to: path, mode: 0o644 };
}

export function fileSizeBytes({ content }: FileNode): number {
  return content.kind === "inline" ? content.bytes.length : content.sizeBytes;
}
