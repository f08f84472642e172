// The floor: the lowest version of signed images that this machine still starts (decision 0019). Kept in a TPM
// counter where there is a TPM, and as a signed statement on the EFI system partition; the higher one counts.
//
// Invariants: it never sinks by anything done here; what cannot be read is a problem to be told, and no floor. What
// to make of that (`counter=tpm` wants a TPM) is for the caller to decide.

import { describeError } from "../error.ts";
import type { TrustAnchors } from "../format/trust/anchors.ts";
import { openTpm, type Tpm } from "../sys/tpm.ts";
import { readEspFloor, writeEspFloor } from "./esp-floor.ts";
import { raiseTpmFloor, readTpmFloor } from "./tpm-floor.ts";

export const TPM_PATH = "/dev/tpmrm0";

export interface Floor {
  /** Lowest version that may start; null: any. */
  readonly value: number | null;
  /** Where the value stands; "none" also when there is no value. */
  readonly source: "tpm" | "esp" | "none";
  /** The TPM answered, and what it holds (if anything) is ours. Always false with counter=esp and none. */
  readonly tpmUsable: boolean;
  /** What could not be read or written, each a line for people. */
  readonly problems: readonly string[];
}

export interface FloorPlaces {
  /** The TPM's device, as TPM_PATH; null: none is looked for. */
  readonly tpmPath: string | null;
  /** Where the EFI system partition is mounted; null: not at all. */
  readonly espPath: string | null;
  readonly anchors: TrustAnchors;
  /** Instead of the device, for tests. */
  readonly openTpm?: (path: string) => Tpm | null;
}

/** What a raise needs of the image that is the lowest to start from now on. */
export interface FloorTarget {
  readonly version: number;
  /** Its signed statement. */
  readonly document: Uint8Array;
}

/** Never throws for what the TPM or the partition hold. */
export function readFloor(places: FloorPlaces): Floor {
  const problems: string[] = [];
  const { usable, value: inTpm } = withTpm(places, problems, readTpmFloor);
  const onEsp = withEsp(places, problems, readEspFloor);
  return combine(inTpm, onEsp, usable, problems);
}

/** Raises the floor wherever it is kept; idempotent, and may be cut short at any point. Returns what counts now. */
export function raiseFloor(places: FloorPlaces, { document, version }: FloorTarget): Floor {
  const problems: string[] = [];
  withEsp(places, problems, (path) => {
    if (isBelow(currentEspFloor(path, places.anchors), version)) writeEspFloor(path, document);
    return null;
  });
  withTpm(places, problems, (tpm) => {
    raiseTpmFloor(tpm, version);
    return null;
  });
  const now = readFloor(places);
  return { ...now, problems: [...new Set([...problems, ...now.problems])] };
}

function isBelow(floor: number | null, version: number): boolean {
  return floor === null || floor < version;
}

/** A file that does not count is replaced. */
function currentEspFloor(path: string, anchors: TrustAnchors): number | null {
  try {
    return readEspFloor(path, anchors);
  } catch {
    return null;
  }
}

function combine(
  inTpm: number | null,
  onEsp: number | null,
  tpmUsable: boolean,
  problems: readonly string[],
): Floor {
  if (inTpm !== null && (onEsp === null || onEsp <= inTpm)) {
    return { value: inTpm, source: "tpm", tpmUsable, problems };
  }
  return { value: onEsp, source: onEsp === null ? "none" : "esp", tpmUsable, problems };
}

/** `work` with the TPM when trust.conf wants one and there is one. */
function withTpm(
  { anchors, openTpm: open = openTpm, tpmPath }: FloorPlaces,
  problems: string[],
  work: (tpm: Tpm) => number | null,
): { readonly usable: boolean; readonly value: number | null } {
  const absent = { usable: false, value: null };
  if (tpmPath === null || anchors.counter === "esp" || anchors.counter === "none") return absent;
  try {
    using tpm = open(tpmPath);
    if (tpm !== null) return { usable: true, value: work(tpm) };
    if (anchors.counter === "tpm") problems.push(`There is no TPM (${tpmPath})`);
  } catch (error) {
    problems.push(describeError(error));
  }
  return absent;
}

function withEsp(
  { anchors, espPath }: FloorPlaces,
  problems: string[],
  work: (path: string, anchors: TrustAnchors) => number | null,
): number | null {
  if (espPath === null || anchors.counter === "none") return null;
  try {
    return work(espPath, anchors);
  } catch (error) {
    problems.push(`Floor on the EFI system partition: ${describeError(error)}`);
    return null;
  }
}
