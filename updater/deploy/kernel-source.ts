// The kernel of a boot image, as it lies in the repository: its boot digest (bootc.md 4.5), and which files
// of it go where on the boot partition.

import { dirname, join } from "node:path";
import type { FileNode } from "../../shared/format/tree/node.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import type { Step } from "../../shared/txn/plan.ts";
import { type BootDirectory, kernelRoot } from "../boot/boot-layout.ts";
import { ADDONS_PARENT, addonDirectory, listAddons, UKI_PARENT } from "../boot/kernel-directory.ts";
import { computeUkiDigest } from "../boot/uki.ts";
import type { BootKernel, ImageFile, UnifiedKernelFiles } from "../image/boot-kernel.ts";
import { openFileContent } from "../image/file-content.ts";
import { openUkiFile } from "../image/uki-file.ts";
import type { KernelPlan } from "./kernel-plan.ts";

/** SHA-256 over kernel and initramfs; reads both, with their digests checked. FormatError for a broken unified one. */
export function computeBootDigest(repo: Repository, kernel: BootKernel): string {
  if (kernel.kind === "uki") {
    using uki = openUkiFile(repo, kernel.file, kernel.path);
    return computeUkiDigest(uki);
  }
  const hasher = new Bun.CryptoHasher("sha256");
  for (const file of [kernel.vmlinuz, kernel.initramfs]) hashContent(repo, file, hasher);
  return hasher.digest("hex");
}

/** SHA-256 of a whole file, in hex. */
export function hashFile(repo: Repository, file: FileNode): string {
  const hasher = new Bun.CryptoHasher("sha256");
  hashContent(repo, file, hasher);
  return hasher.digest("hex");
}

function hashContent(repo: Repository, file: FileNode, hasher: Bun.CryptoHasher): void {
  for (const chunk of openFileContent(repo, file)) hasher.update(chunk);
}

export interface KernelFile {
  /** Absolute. */
  readonly to: string;
  /** In the image, or the absolute path of a file of this machine's. */
  readonly from: FileNode | string;
  readonly sizeBytes: number;
}

/** What a kernel puts on the boot partition. */
export interface KernelWrites {
  /** Absolute, parents first; made when missing. */
  readonly directories: readonly string[];
  readonly files: readonly KernelFile[];
  /** Absolute: files that an attempt before has left where only these are to be. */
  readonly stale: readonly string[];
  /** Absolute: what nobody else has a use for, when it comes to nothing. */
  readonly own: readonly string[];
}

const NO_WRITES: KernelWrites = { directories: [], files: [], stale: [], own: [] };

/** `formerArtefact`: the unified kernel (less ".efi") whose directory has this machine's own addons. */
export function listKernelWrites(
  boot: BootDirectory,
  kernel: BootKernel,
  plan: KernelPlan,
  formerArtefact: string | null,
): KernelWrites {
  if (plan.kind === "bls") {
    return plan.write && kernel.kind === "bls"
      ? listPlainWrites(boot, plan.directory, kernel.vmlinuz, kernel.initramfs)
      : NO_WRITES;
  }
  return kernel.kind === "uki" ? listUnifiedWrites(boot, kernel, plan, formerArtefact) : NO_WRITES;
}

export function listPlainWrites(
  boot: BootDirectory,
  directory: string,
  vmlinuz: FileNode,
  initrd: FileNode,
): KernelWrites {
  const parent = kernelRoot(boot);
  const target = join(parent, directory);
  return {
    // GRUB's kernels lie in the boot directory itself, so the parent's parent may not be ours to make.
    directories: [...(parent === boot.path ? [] : [dirname(parent), parent]), target],
    files: [fromImage(join(target, "vmlinuz"), vmlinuz), fromImage(join(target, "initrd"), initrd)],
    stale: [],
    own: [target],
  };
}

function listUnifiedWrites(
  boot: BootDirectory,
  kernel: UnifiedKernelFiles,
  plan: Extract<KernelPlan, { kind: "uki" }>,
  formerArtefact: string | null,
): KernelWrites {
  const esp = boot.layout.ukiPath ?? boot.path;
  const parent = join(esp, UKI_PARENT);
  const own = join(esp, addonDirectory(plan.name));
  const former = formerArtefact === null ? null : join(esp, addonDirectory(formerArtefact));
  const global = plan.globalAddons.filter(({ isThere }) => !isThere);
  const file = join(parent, `${plan.name}.efi`);
  const shared = global.map(({ target }) => join(esp, ADDONS_PARENT, target));
  return {
    directories: [
      ...[join(esp, "EFI"), join(esp, "EFI/Linux"), parent],
      ...(plan.addons.length === 0 ? [] : [own]),
      ...(global.length === 0 ? [] : [join(esp, "loader"), join(esp, ADDONS_PARENT)]),
    ],
    files: [
      ...global.flatMap(({ name, target }) =>
        fromList(kernel.globalAddons, name, join(esp, ADDONS_PARENT, target)),
      ),
      ...plan.addons.flatMap(({ name, from }) =>
        from === "image"
          ? fromList(kernel.addons, name, join(own, name))
          : [fromMachine(join(former ?? own, name), join(own, name))],
      ),
      fromImage(file, kernel.file),
    ],
    // One by one: what is staged already may be this very deployment.
    stale: listAddons(boot.layout, addonDirectory(plan.name))
      .filter((name) => !plan.addons.some((each) => each.name === name))
      .map((name) => join(own, name)),
    own: [file, own, ...shared],
  };
}

function fromList(files: readonly ImageFile[], name: string, to: string): readonly KernelFile[] {
  return files.filter((each) => each.name === name).map(({ file }) => fromImage(to, file));
}

export function fromImage(to: string, from: FileNode): KernelFile {
  return { to, from, sizeBytes: fileSizeBytes(from) };
}

function fromMachine(from: string, to: string): KernelFile {
  return { to, from, sizeBytes: fstatatIfExists(null, from)?.sizeBytes ?? 0 };
}

/** Steps that write them, onto the disk. */
export function kernelSteps(
  physicalRoot: string,
  { directories, files, stale }: KernelWrites,
): readonly Step[] {
  const parents = [...new Set(files.map(({ to }) => dirname(to)))];
  return [
    ...stale.map((path): Step => ({ kind: "remove", path })),
    ...directories.map((path): Step => ({ kind: "mkdir", path, mode: 0o755 })),
    ...files.map((file) => copyStep(physicalRoot, file)),
    ...parents.flatMap((path): Step[] => [
      { kind: "sync", path },
      { kind: "sync", path: dirname(path) },
    ]),
  ];
}

function copyStep(physicalRoot: string, { to, from }: KernelFile): Step {
  if (typeof from === "string") return { kind: "copy", from, to, mode: 0o644 };
  const { content } = from;
  if (content.kind === "inline") {
    return { kind: "write", path: to, bytes: content.bytes, mode: 0o644 };
  }
  const object = join(physicalRoot, "composefs/objects", objectPath(content.digest ?? ""));
  return { kind: "copy", from: object, to, mode: 0o644 };
}

export function fileSizeBytes({ content }: FileNode): number {
  return content.kind === "inline" ? content.bytes.length : content.sizeBytes;
}
