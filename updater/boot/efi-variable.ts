// What the boot loader left in EFI variables (systemd's Boot Loader Interface).
//
// A variable's file starts with four attribute bytes; the text is NUL-terminated UTF-16LE. systemd-boot
// writes partition UUIDs in upper case, GRUB in lower case.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";
import type { System } from "./system.ts";

const LOADER_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/** Null when the variable (or EFI itself) is not there. */
export function readLoaderVariable(system: System, name: string): string | null {
  const path = join(system.sysfs, "firmware/efi/efivars", `${name}-${LOADER_VENDOR}`);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return null;
    throw error;
  }
  return bytes.subarray(4).toString("utf16le").replace(/\0.*$/s, "");
}

export type Bootloader = "grub" | "grub-cc" | "systemd" | "none";

/** Which boot loader started this machine (bootc.md 4.9): no answer means GRUB. */
export function detectBootloader(system: System): Bootloader {
  const info = readLoaderVariable(system, "LoaderInfo")?.toLowerCase() ?? "";
  if (info.includes("systemd-boot")) return "systemd";
  return info.includes("grub cc") ? "grub-cc" : "grub";
}

/** UUID, in lower case, of the partition the boot loader was started from. */
export function readLoaderPartition(system: System): string | null {
  const uuid = readLoaderVariable(system, "LoaderDevicePartUUID")?.toLowerCase() ?? "";
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uuid) ? uuid : null;
}
