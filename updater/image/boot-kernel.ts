// Which kernel an image boots. Looked for in composefs-rs' order, the first found counts:
// Type #1 entries in /boot (refused, as bootc does), unified kernel images in /boot/EFI/Linux, then
// per directory of /usr/lib/modules a unified image or vmlinuz with initramfs.img. With a unified image come
// its addons, those for every kernel, and the listing that was written when it was sealed.

import { FormatError } from "../../shared/error.ts";
import {
  type DirectoryNode,
  type FileNode,
  fromByteString,
  sortedNames,
} from "../../shared/format/tree/node.ts";
import { lookupDirectory, lookupFile } from "./tree-lookup.ts";

export interface PlainKernel {
  readonly kind: "bls";
  /** Name of its directory in /usr/lib/modules, as `uname -r` will say. */
  readonly version: string;
  readonly vmlinuz: FileNode;
  readonly initramfs: FileNode;
}

export interface ImageFile {
  /** Of a dump: its path; of an addon: its name. */
  readonly name: string;
  readonly file: FileNode;
}

export interface UnifiedKernelFiles {
  readonly kind: "uki";
  /** Directory in /usr/lib/modules, or the file name without ".efi". */
  readonly version: string;
  readonly fileName: string;
  /** Absolute, in the image. */
  readonly path: string;
  readonly file: FileNode;
  /** Of its directory `<fileName>.extra.d`, by name. */
  readonly addons: readonly ImageFile[];
  /** `/boot/loader/addons/bootc-*.addon.efi`: they add to every unified kernel of the machine. */
  readonly globalAddons: readonly ImageFile[];
  /** The tree's dump, as it was when the kernel was sealed. */
  readonly dump: ImageFile | null;
}

export type BootKernel = PlainKernel | UnifiedKernelFiles;

const MODULES = "usr/lib/modules";
const ESP_KERNELS = "boot/EFI/Linux";
const GLOBAL_ADDONS = "boot/loader/addons";
const ADDON_SUFFIX = ".addon.efi";
/** What every file system, loader and record takes. */
const ADDON_NAME = /^[A-Za-z0-9][A-Za-z0-9._+~@-]{0,180}\.addon\.efi$/;

/** Whether an addon for every kernel is of ours: those of other programs are never touched. */
export function isOurAddon(name: string): boolean {
  return name.startsWith("bootc-") && ADDON_NAME.test(name);
}

/** Call before /boot is emptied. FormatError("not-found") when the image has no kernel. */
export function findBootKernel(root: DirectoryNode): BootKernel {
  refuseEntries(root);
  const unified = findUnified(root, ESP_KERNELS);
  if (unified !== null) return describeUnified(root, stemOf(unified.fileName), unified);
  const modules = lookupDirectory(root, MODULES);
  const versions = modules === null ? [] : sortedNames(modules).map(fromByteString);
  for (const version of versions) {
    const found = findUnified(root, `${MODULES}/${version}`);
    if (found !== null) return describeUnified(root, version, found);
  }
  for (const version of versions) {
    const kernel = findPlain(root, version);
    if (kernel !== null) return kernel;
  }
  throw new FormatError(
    "not-found",
    `Image has no kernel: there is neither "/${MODULES}/VERSION/vmlinuz" nor "/boot/EFI/Linux/NAME.efi"`,
  );
}

function refuseEntries(root: DirectoryNode): void {
  const entries = lookupDirectory(root, "boot/loader/entries");
  const entry = entries && sortedNames(entries).find((name) => name.endsWith(".conf"));
  if (!entry) return;
  throw new FormatError(
    "unsupported",
    `Image has the boot entry "/boot/loader/entries/${fromByteString(entry)}"; ` +
      `remove it and keep the kernel in /${MODULES}, entries are made when the image is deployed`,
  );
}

function findPlain(root: DirectoryNode, version: string): BootKernel | null {
  const vmlinuz = lookupFile(root, `${MODULES}/${version}/vmlinuz`);
  if (vmlinuz === null) return null;
  const initramfs = lookupFile(root, `${MODULES}/${version}/initramfs.img`);
  if (initramfs === null) {
    throw new FormatError(
      "not-found",
      `Image has the kernel ${version} without "/${MODULES}/${version}/initramfs.img"; run dracut when building it`,
    );
  }
  return { kind: "bls", version, vmlinuz, initramfs };
}

interface FoundUnified {
  readonly directory: string;
  readonly fileName: string;
  readonly file: FileNode;
}

/** First unified image in or below the directory of this path, in name order. */
function findUnified(root: DirectoryNode, path: string): FoundUnified | null {
  const directory = lookupDirectory(root, path);
  return directory === null ? null : findUnifiedIn(directory, path);
}

function findUnifiedIn(directory: DirectoryNode, path: string): FoundUnified | null {
  for (const name of sortedNames(directory)) {
    const node = directory.entries.get(name);
    const text = fromByteString(name);
    if (node?.kind === "file" && isUnified(name)) {
      return { directory: path, fileName: text, file: node };
    }
    if (node?.kind === "symlink" && isUnified(name)) throw refuseLink(`${path}/${text}`);
    const below = node?.kind === "directory" ? findUnifiedIn(node, `${path}/${text}`) : null;
    if (below !== null) return below;
  }
  return null;
}

/** Passed over, it would leave an image that was meant to be sealed with whatever kernel is beside it. */
function refuseLink(path: string): FormatError {
  return new FormatError(
    "unsupported",
    `Image has a link where a unified kernel should be, "/${path}"; put the file itself there`,
  );
}

function isUnified(name: string): boolean {
  return name.endsWith(".efi") && !name.endsWith(ADDON_SUFFIX);
}

/** Paths in /boot/EFI/Linux that look like unified kernels, and are not the one that boots. */
export function listOtherKernels(root: DirectoryNode, kernel: BootKernel | null): string[] {
  const directory = lookupDirectory(root, ESP_KERNELS);
  const paths = directory === null ? [] : listPrograms(directory, `/${ESP_KERNELS}`);
  return paths.filter((path) => kernel?.kind !== "uki" || path !== kernel.path);
}

function listPrograms(directory: DirectoryNode, path: string): string[] {
  return sortedNames(directory).flatMap((name) => {
    const node = directory.entries.get(name);
    const below = `${path}/${fromByteString(name)}`;
    if (node?.kind === "directory") return listPrograms(node, below);
    return isUnified(name.toLowerCase()) ? [below] : [];
  });
}

function describeUnified(
  root: DirectoryNode,
  version: string,
  { directory, fileName, file }: FoundUnified,
): UnifiedKernelFiles {
  const path = `${directory}/${fileName}`;
  return {
    kind: "uki",
    version,
    fileName,
    path: `/${path}`,
    file,
    addons: listAddons(root, `${path}.extra.d`),
    globalAddons: listAddons(root, GLOBAL_ADDONS).filter(({ name }) => isOurAddon(name)),
    dump: findDump(root, path, fileName),
  };
}

/** Beside the kernel, where `bootc container seal` puts it, or in /boot itself (bootc.md 4.10 f). */
function findDump(root: DirectoryNode, path: string, fileName: string): ImageFile | null {
  const places = [path, `boot/${fileName}`, `boot/${stemOf(fileName)}`];
  for (const place of places) {
    const file = lookupFile(root, `${place}.dump`);
    if (file !== null) return { name: `/${place}.dump`, file };
  }
  return null;
}

/** FormatError for a name that could not be written everywhere; others than addons do not count. */
function listAddons(root: DirectoryNode, path: string): readonly ImageFile[] {
  const directory = lookupDirectory(root, path);
  const names = directory === null ? [] : sortedNames(directory);
  const addons = names.flatMap((bytes): ImageFile[] => {
    const name = fromByteString(bytes);
    const file = name.endsWith(ADDON_SUFFIX) ? lookupFile(root, `${path}/${name}`) : null;
    return file === null ? [] : [{ name, file }];
  });
  const folded = new Set<string>();
  for (const { name } of addons) {
    const isTwin = folded.has(name.toLowerCase());
    folded.add(name.toLowerCase());
    if (ADDON_NAME.test(name) && !isTwin) continue;
    throw new FormatError(
      "bad-value",
      `Addon "/${path}/${name}" of the image cannot be written to a boot partition: ${
        isTwin
          ? "another name differs in case only"
          : 'use letters, digits and "._+~@-" in its name'
      }`,
    );
  }
  return addons;
}

function stemOf(fileName: string): string {
  return fileName.slice(0, -".efi".length);
}
