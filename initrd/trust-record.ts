// What prepare-root decided and why, for `bootc status`: `composefs/trust.json` below /run, or `trust-next.json`
// for a root that a soft reboot will start, until which the other one stays true.
//
// Only for people and programs that ask afterwards: that it cannot be written is no reason to refuse.

import { describeError } from "../shared/error.ts";
import { O } from "../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../shared/sys/directory.ts";
import { openat, writeAll } from "../shared/sys/file.ts";
import type { StartTrust } from "./trust.ts";

export interface TrustRecord {
  readonly mode: "signed" | "unsigned" | "ostree-signed";
  /** The deployment: hex digest of its image; for ostree the deployment's directory. */
  readonly id: string;
  /** Fingerprint. */
  readonly key: string | null;
  readonly keyName: string | null;
  readonly version: number | null;
  readonly expires: string | null;
  /** Whether every file is checked by fs-verity as it is read. */
  readonly verity: "enforced" | "optional";
  readonly floor: { readonly value: number | null; readonly source: "tpm" | "esp" | "none" };
  readonly warnings: readonly string[];
}

export function makeTrustRecord(
  id: string,
  { floor, judgement, warnings }: StartTrust,
  enforced: boolean,
): TrustRecord {
  const { key, mode, statement } = judgement;
  return {
    mode,
    id,
    key: key?.fingerprint ?? null,
    keyName: key?.name ?? null,
    version: statement?.version ?? null,
    expires: statement?.expires ?? null,
    verity: enforced ? "enforced" : "optional",
    floor: { value: floor.value, source: floor.source },
    warnings,
  };
}

/** Returns what went wrong, for the journal. */
export function writeTrustRecord(run: string, isNext: boolean, record: TrustRecord): string[] {
  try {
    mkdiratIfMissing(null, `${run}/composefs`, 0o755);
    const path = `${run}/composefs/${isNext ? "trust-next.json" : "trust.json"}`;
    using file = openat(null, path, O.WRONLY | O.CREAT | O.TRUNC | O.NOFOLLOW, 0o644);
    writeAll(file, Buffer.from(`${JSON.stringify(record)}\n`));
    return [];
  } catch (error) {
    return [`what was trusted cannot be noted for bootc status: ${describeError(error)}`];
  }
}

/** For the journal: "trust=signed key=0123456789abcdef version=42 floor=40(tpm)". */
export function describeTrust({ floor, key, mode, version }: TrustRecord): string {
  if (mode !== "signed") return `trust=${mode}`;
  const lowest = floor.value === null ? "none" : `${floor.value}(${floor.source})`;
  return `trust=signed key=${key?.slice(0, 16)} version=${version} floor=${lowest}`;
}
