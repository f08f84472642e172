// Whom the firmware of this machine trusts to sign what it starts: the variables db and dbx (UEFI 2.10, 32.6), and those of
// shim, which has keys of its own where it stands between the firmware and the boot loader.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeError, FormatError, isErrno } from "../../shared/error.ts";
import {
  parseSignatureLists,
  type SignatureLists,
} from "../../shared/format/uki/signature-list.ts";
import type { System } from "../boot/system.ts";
import { SHIM_VENDOR } from "./secure-boot.ts";

const DATABASE_VENDOR = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/** A copy of shim's own list; one of the others is there as well, depending on its version. */
const SHIM_LIST = "MokListRT";
const SHIM_VARIABLES = [SHIM_LIST, "MokListTrustedRT", "SbatLevelRT"];

export interface FirmwareKeys {
  readonly allowed: SignatureLists;
  readonly forbidden: SignatureLists;
  /** What shim lets start besides, as far as it tells; null: there is none. */
  readonly shim: SignatureLists | null;
  /** What cannot be read, one clause; null: nothing. Then nothing can be said of a signature. */
  readonly problem: string | null;
}

const NONE: SignatureLists = { certificates: [], hasOthers: false };
const UNKNOWN: SignatureLists = { certificates: [], hasOthers: true };

export function readFirmwareKeys(system: System): FirmwareKeys {
  const variables = join(system.sysfs, "firmware/efi/efivars");
  const hasShim = SHIM_VARIABLES.some((name) =>
    existsSync(join(variables, `${name}-${SHIM_VENDOR}`)),
  );
  const unknown = { allowed: UNKNOWN, forbidden: NONE, shim: hasShim ? UNKNOWN : null };
  try {
    const allowed = readLists(variables, `db-${DATABASE_VENDOR}`);
    if (allowed === null) {
      return { ...unknown, problem: "the firmware does not show its list of keys (db)" };
    }
    const forbidden = readLists(variables, `dbx-${DATABASE_VENDOR}`) ?? NONE;
    const shim = hasShim ? (readLists(variables, `${SHIM_LIST}-${SHIM_VENDOR}`) ?? UNKNOWN) : null;
    return { allowed, forbidden, shim, problem: null };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { ...unknown, problem: describeError(error) };
  }
}

/** Null when the variable is not there. */
function readLists(variables: string, name: string): SignatureLists | null {
  try {
    const bytes = readFileSync(join(variables, name));
    // After four bytes of attributes.
    return parseSignatureLists(bytes.subarray(4));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EACCES")) return null;
    throw error;
  }
}
