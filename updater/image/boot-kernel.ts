// Which kernel an image boots. Looked for in composefs-rs' order, the first found counts:
// Type #1 entries in /boot (refused, as bootc does), unified kernel images in /boot/EFI/Linux, then
// per directory of /usr/lib/modules a unified image or vmlinuz with initramfs.img.

import { FormatError } from "../../shared/error.ts";
import {
  type ByteString,
  type DirectoryNode,
  type FileNode,
  fromByteString,
  sortedNames,
} from "../../shared/format/tree/node.ts";
import { lookupDirectory, lookupFile } from "./tree-lookup.ts";

export type BootKernel =
  | {
      readonly kind: "bls";
      /** Name of its directory in /usr/lib/modules, as `uname -r` will say. */
      readonly version: string;
      readonly vmlinuz: FileNode;
      readonly initramfs: FileNode;
    }
  | {
      readonly kind: "uki";
      /** Directory in /usr/lib/modules, or the file name without ".efi". */
      readonly version: string;
      readonly fileName: string;
      readonly file: FileNode;
    };

const MODULES = "usr/lib/modules";
const ADDON_SUFFIX = ".addon.efi";

/** Call before /boot is emptied. FormatError("not-found") when the image has no kernel. */
export function findBootKernel(root: DirectoryNode): BootKernel {
  refuseEntries(root);
  const unified = findUnified(lookupDirectory(root, "boot/EFI/Linux"));
  if (unified !== null) {
    return { kind: "uki", version: unified.fileName.slice(0, -".efi".length), ...unified };
  }
  const modules = lookupDirectory(root, MODULES);
  const versions = modules === null ? [] : sortedNames(modules).map(fromByteString);
  for (const version of versions) {
    const found = findUnified(lookupDirectory(root, `${MODULES}/${version}`));
    if (found !== null) return { kind: "uki", version, ...found };
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

/** First unified image in or below `directory`, in name order. */
function findUnified(
  directory: DirectoryNode | null,
): { readonly fileName: string; readonly file: FileNode } | null {
  if (directory === null) return null;
  for (const name of sortedNames(directory)) {
    const node = directory.entries.get(name);
    if (node?.kind === "file" && isUnified(name)) {
      return { fileName: fromByteString(name), file: node };
    }
    const below = node?.kind === "directory" ? findUnified(node) : null;
    if (below !== null) return below;
  }
  return null;
}

function isUnified(name: ByteString): boolean {
  return name.endsWith(".efi") && !name.endsWith(ADDON_SUFFIX);
}
