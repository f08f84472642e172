// The floor in a TPM: one NV counter, which only ever rises, whoever writes to the disk (decision 0019).
//
// - floor = value - base; the base lies in the index's policy field (shared/format/tpm/floor-policy.ts).
// - A new counter begins above every counter that this TPM ever had, so where it begins is found out with
//   one that is only for that (`probe`), before the one that counts is made. At every point a power cut
//   leaves no index, a probe, a counter without value (all three: no floor), or the floor.
// - An index at our handle that is not ours is left alone.

import { StateError } from "../error.ts";
import {
  decodeFloorPolicy,
  encodeFloorPolicy,
  type FloorPolicy,
} from "../format/tpm/floor-policy.ts";
import {
  defineNvCounter,
  incrementNvCounter,
  readNvCounter,
  readNvIndex,
  type Tpm,
  undefineNvCounter,
} from "../sys/tpm.ts";

/** In the range of the TPM's owner. */
export const FLOOR_INDEX = 0x01500b00;
/** Each step wears the TPM's memory and takes up to a tenth of a second. */
const MAX_STEPS = 10_000;
/** Somebody else may make counters between our two commands. */
const DEFINE_ATTEMPTS = 4;
const U64 = 64;

interface FloorCounter {
  readonly policy: FloorPolicy;
  /** Null before the first increment. */
  readonly value: bigint | null;
}

/** Null: this TPM holds no floor yet. StateError when what it holds is not to be used, or it does not answer. */
export function readTpmFloor(tpm: Tpm): number | null {
  const found = readCounter(tpm);
  return found === null ? null : floorOf(found);
}

/** Raises the floor to `version`, never lowers it; may be interrupted and repeated. */
export function raiseTpmFloor(tpm: Tpm, version: number): void {
  const found = readCounter(tpm);
  const floor = found === null ? null : floorOf(found);
  if (found === null || floor === null) {
    makeCounter(tpm, version);
    return;
  }
  if (version - floor > MAX_STEPS) {
    throw new StateError(
      "conflict",
      `Cannot raise the floor in the TPM from ${floor} to ${version}: that is more than ${MAX_STEPS} steps; count image versions in smaller ones`,
      { floor, version },
    );
  }
  const target = found.policy.base + BigInt(version);
  // Read after each step: nothing may ever go beyond the target.
  for (let value = found.value; value !== null && isBelow(value, target); ) {
    incrementNvCounter(tpm, FLOOR_INDEX);
    value = readNvCounter(tpm, FLOOR_INDEX);
  }
}

/** Both are modulo 2^64 and close to each other. */
function isBelow(value: bigint, target: bigint): boolean {
  return BigInt.asIntN(U64, target - value) > 0n;
}

function readCounter(tpm: Tpm): FloorCounter | null {
  const index = readNvIndex(tpm, FLOOR_INDEX);
  if (index.kind === "none") return null;
  const policy = index.kind === "counter" ? decodeFloorPolicy(index.policy) : null;
  if (policy === null || index.kind === "foreign") {
    throw new StateError(
      "conflict",
      `The TPM's index 0x${FLOOR_INDEX.toString(16)} is used by something else: remove it, or set counter=esp in trust.conf`,
      { index: FLOOR_INDEX },
    );
  }
  return { policy, value: index.written ? readNvCounter(tpm, FLOOR_INDEX) : null };
}

function floorOf({ policy, value }: FloorCounter): number | null {
  if (policy.kind === "probe" || value === null) return null;
  const floor = BigInt.asUintN(U64, value - policy.base);
  if (floor >= 1n && floor <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(floor);
  throw new StateError(
    "conflict",
    `The floor in the TPM's index 0x${FLOOR_INDEX.toString(16)} is no version (${floor}): remove the index, and it is made again`,
    { index: FLOOR_INDEX },
  );
}

/** Makes the counter with `version` as its first value. */
function makeCounter(tpm: Tpm, version: number): void {
  let first = probeFirstValue(tpm);
  for (let attempt = 0; attempt < DEFINE_ATTEMPTS; attempt++) {
    const base = first - BigInt(version);
    defineNvCounter(tpm, FLOOR_INDEX, encodeFloorPolicy({ kind: "floor", base }));
    incrementNvCounter(tpm, FLOOR_INDEX);
    const value = readNvCounter(tpm, FLOOR_INDEX);
    if (value === first) return;
    undefineNvCounter(tpm, FLOOR_INDEX);
    first = (value ?? first) + 1n;
  }
  throw new StateError(
    "conflict",
    `Cannot make the floor's counter in the TPM: others made counters at the same time, ${DEFINE_ATTEMPTS} times; try again`,
  );
}

/** What a counter that is made next begins with. Afterwards there is no index. */
function probeFirstValue(tpm: Tpm): bigint {
  // A probe, or a counter without value, of a run that was cut short.
  if (readNvIndex(tpm, FLOOR_INDEX).kind !== "none") undefineNvCounter(tpm, FLOOR_INDEX);
  defineNvCounter(tpm, FLOOR_INDEX, encodeFloorPolicy({ kind: "probe", base: 0n }));
  incrementNvCounter(tpm, FLOOR_INDEX);
  const value = readNvCounter(tpm, FLOOR_INDEX);
  undefineNvCounter(tpm, FLOOR_INDEX);
  if (value !== null) return value + 1n;
  throw new StateError("command-failed", "The TPM's counter has no value after an increment");
}
