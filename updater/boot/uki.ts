// Unified kernels on the ESP, `EFI/Linux/bootc/bootc_composefs-<id>.efi` (bootc.md 4.4, 4.5): what is in one,
// read from the file without running anything.

import { join } from "node:path";
import { describeError, FormatError } from "../../shared/error.ts";
import {
  type OpenUnifiedKernel,
  readUki,
  type UnifiedKernel,
} from "../../shared/format/uki/reader.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openRegularFile, pread } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import type { BootEntry } from "./boot-entry.ts";
import type { BootLayout } from "./boot-layout.ts";
import { listAddons } from "./kernel-directory.ts";

/** FormatError when the file is no PE program. */
export function openUki(path: string): OpenUnifiedKernel {
  using resources = new DisposableStack();
  const file = resources.use(openFile(path));
  const kernel = readUki({
    name: path,
    sizeBytes: fstat(file).sizeBytes,
    readAt: (target, offset) => pread(file, target, offset),
  });
  const owned = resources.move();
  return { ...kernel, [Symbol.dispose]: () => owned.dispose() };
}

/**
 * The entry with the arguments its kernel gets: of a unified kernel they stand in it. Null for an entry that
 * starts no unified kernel; throws what opening it throws.
 */
export function readUkiCmdline(entry: BootEntry, layout: BootLayout): string | null {
  const { target } = entry.entry;
  if (target.kind !== "efi" || layout.ukiPath === null) return null;
  using kernel = openUki(join(layout.ukiPath, target.path));
  return kernel.readText(".cmdline") ?? "";
}

/** What addons add to a unified kernel's arguments, in the order in which systemd-stub takes them. */
export interface AddonArguments {
  readonly text: string;
  /** Addons that cannot be read, one sentence each. */
  readonly problems: readonly string[];
}

/** Of the addons in a directory on the ESP, by name as the stub sorts them. */
export function readAddonArguments(layout: BootLayout, directory: string): AddonArguments {
  const texts: string[] = [];
  const problems: string[] = [];
  try {
    for (const name of listAddons(layout, directory)) {
      try {
        using addon = openUki(join(layout.ukiPath ?? "", directory, name));
        texts.push(addon.readText(".cmdline") ?? "");
      } catch (error) {
        problems.push(`Addon "${directory}/${name}" cannot be read: ${describeError(error)}`);
      }
    }
  } catch (error) {
    problems.push(`Addons in "${directory}" cannot be listed: ${describeError(error)}`);
  }
  return { text: texts.filter((text) => text !== "").join(" "), problems };
}

/** SHA-256 over kernel and initramfs in a unified kernel (bootc.md 4.5); one may have no initramfs. */
export function computeUkiDigest(uki: UnifiedKernel): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const section of [".linux", ".initrd"]) {
    if (!uki.sections.some(({ name }) => name === section) && section === ".initrd") continue;
    for (const chunk of uki.readChunks(section)) hasher.update(chunk);
  }
  return hasher.digest("hex");
}

function openFile(path: string): Fd {
  const file = openRegularFile(null, path);
  if (file !== null) return file;
  throw new FormatError("bad-value", `"${path}" is no unified kernel: it is no regular file`, {
    path,
  });
}
