// Whether the firmware checks what it starts (UEFI 2.10, 3.3 and 32.3), and what it has to keep a floor in.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";
import type { System } from "../boot/system.ts";

/** "setup": no owner's key is enrolled yet, so nothing is checked. "unsupported": no UEFI, or none that tells. */
export type SecureBoot = "enabled" | "disabled" | "setup" | "unsupported";

const GLOBAL_VENDOR = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
export const SHIM_VENDOR = "605dab50-e046-4300-abb6-3dd810dd8b23";

export function readSecureBoot(system: System): SecureBoot {
  const enabled = readFlag(system, `SecureBoot-${GLOBAL_VENDOR}`);
  if (enabled === null) return "unsupported";
  if (readFlag(system, `SetupMode-${GLOBAL_VENDOR}`) === true) return "setup";
  // "mokutil --disable-validation": the firmware checks shim, and shim nothing.
  const isUnchecked = readFlag(system, `MokSBStateRT-${SHIM_VENDOR}`) === true;
  return enabled && !isUnchecked ? "enabled" : "disabled";
}

/** The TPM's device, or null. */
export function findTpm(system: System): string | null {
  const path = join(system.devices, "tpmrm0");
  return existsSync(path) ? path : null;
}

/** A variable of one byte, after four of attributes; null when it is not there. */
function readFlag(system: System, name: string): boolean | null {
  try {
    const bytes = readFileSync(join(system.sysfs, "firmware/efi/efivars", name));
    return bytes.length === 5 ? bytes[4] === 1 : null;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return null;
    throw error;
  }
}
