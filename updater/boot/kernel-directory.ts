// Kernel directories in the boot loader's directory: `bootc_composefs-<id>/{vmlinuz,initrd}`, where the
// layout puts them (bootc.md 4.4-4.6).
//
// A directory is named after the deployment that brought it, but every deployment with the same two
// files uses it (vfat has no links): it lives for as long as any entry names it. Two pairs are the same
// when their boot digest is, SHA-256 over vmlinuz followed by initrd.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { isErrno, SyscallError } from "../../shared/error.ts";
import { openRegularFile, read } from "../../shared/sys/file.ts";
import { isTemporaryName } from "../../shared/txn/atomic.ts";
import { isArtefactName } from "./artefact-name.ts";
import { type BootDirectory, type BootLayout, kernelRoot } from "./boot-layout.ts";

/** On the ESP; deeper than where systemd-boot looks for unified kernels by itself. */
export const UKI_PARENT = "EFI/Linux/bootc";
/** On the ESP: addons for every unified kernel. */
export const ADDONS_PARENT = "loader/addons";
const ADDON_SUFFIX = ".addon.efi";
const CHUNK_BYTES = 1024 * 1024;

export interface KernelDirectory {
  /** `bootc_composefs-<id>`, or `<id>` from before bootc 1.16 */
  readonly name: string;
  /** Null when a file is missing or cannot be read: a copy that was interrupted, a bad disk. */
  readonly bootDigest: string | null;
}

export interface KernelState {
  readonly isComplete: boolean;
  readonly bootDigest: string | null;
}

/** Names of all kernel directories. */
export function listKernelDirectories(boot: BootDirectory): readonly string[] {
  try {
    return readdirSync(kernelRoot(boot), { withFileTypes: true })
      .filter((item) => item.isDirectory() && isArtefactName(item.name))
      .map((item) => item.name)
      .sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Names in `EFI/Linux/bootc` that are ours: `bootc_composefs-<id>.efi` and `….efi.extra.d` with its addons. */
export function listUnifiedKernels({ layout }: Pick<BootDirectory, "layout">): readonly string[] {
  if (layout.ukiPath === null) return [];
  try {
    return readdirSync(join(layout.ukiPath, UKI_PARENT))
      .filter((name) => isArtefactName(/^(.*)\.efi(?:\.extra\.d)?$/.exec(name)?.[1] ?? ""))
      .sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Names of addons in the directory of a unified kernel, or in that for all of them, by name. */
export function listAddons(layout: BootLayout, directory: string): readonly string[] {
  if (layout.ukiPath === null) return [];
  try {
    return readdirSync(join(layout.ukiPath, directory), { withFileTypes: true })
      .filter((item) => item.isFile() && item.name.toLowerCase().endsWith(ADDON_SUFFIX))
      .map(({ name }) => name)
      .filter((name) => !isTemporaryName(name))
      .sort();
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

/** On the ESP: the directory with the addons of one unified kernel, `bootc_composefs-<id>`. */
export function addonDirectory(artefact: string): string {
  return `${UKI_PARENT}/${artefact}.efi.extra.d`;
}

/** Files that writers who died left in these kernel directories and beside them; below the boot directory. */
export function listStrayFiles(boot: BootDirectory, kernels: readonly string[]): readonly string[] {
  const { kernelParent, ukiPath } = boot.layout;
  const directories = [
    kernelParent,
    ...kernels.map((name) => join(kernelParent, name)),
    ...(ukiPath === boot.path ? listUkiDirectories(boot) : []),
  ];
  return directories.flatMap((directory) =>
    listNames(join(boot.path, directory))
      .filter(isTemporaryName)
      .map((name) => join(directory, name)),
  );
}

/** Only of directories in which files may be: what cannot be listed is told by who needs the list. */
function listUkiDirectories({ path }: BootDirectory): readonly string[] {
  const own = listNames(join(path, UKI_PARENT)).filter(
    (name) =>
      name.endsWith(".efi.extra.d") && isArtefactName(name.slice(0, -".efi.extra.d".length)),
  );
  return [UKI_PARENT, ADDONS_PARENT, ...own.map((name) => join(UKI_PARENT, name))];
}

/** What cannot be listed has none that could be removed. */
function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Reads every kernel directory through: slow, only for staging. */
export function readKernelDirectories(boot: BootDirectory): readonly KernelDirectory[] {
  return listKernelDirectories(boot).map((name) => ({
    name,
    bootDigest: hashFiles(kernelPaths(boot, name)),
  }));
}

/** One of them for a check; without reading it the digest is null. */
export function checkKernelDirectory(
  boot: BootDirectory,
  name: string,
  metadataOnly: boolean,
): KernelState {
  const paths = kernelPaths(boot, name);
  return {
    isComplete: paths.every(isFile),
    bootDigest: metadataOnly ? null : hashFiles(paths),
  };
}

/** SHA-256 in hex; null when it is no regular file, or cannot be read. */
export function hashRegularFile(path: string): string | null {
  return hashFiles([path]);
}

function kernelPaths(boot: BootDirectory, name: string): readonly string[] {
  return ["vmlinuz", "initrd"].map((file) => join(kernelRoot(boot), name, file));
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function hashFiles(paths: readonly string[]): string | null {
  const hasher = new Bun.CryptoHasher("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  try {
    for (const path of paths) {
      using fd = openRegularFile(null, path);
      if (fd === null) return null;
      for (let n = read(fd, chunk); n > 0; n = read(fd, chunk)) hasher.update(chunk.subarray(0, n));
    }
  } catch (error) {
    if (error instanceof SyscallError) return null;
    throw error;
  }
  return hasher.digest("hex");
}
