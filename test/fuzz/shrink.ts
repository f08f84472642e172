// Makes an input smaller (then plainer) while it still shows the same finding.

import type { LoadedTarget } from "./bundle.ts";
import { join } from "./mutate.ts";
import { runInput } from "./run.ts";

const MAX_TRIES = 1500;

export async function shrinkInput(
  loaded: LoadedTarget,
  input: Uint8Array,
  signature: string,
): Promise<Uint8Array> {
  let best = input;
  let tries = 0;
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    if (tries++ > MAX_TRIES) return false;
    const { finding } = await runInput(loaded, candidate);
    if (finding?.signature !== signature) return false;
    best = candidate;
    return true;
  };
  for (const change of [removeRange, clearRange]) {
    for (let size = Math.ceil(best.length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let at = 0; at < best.length && tries <= MAX_TRIES; ) {
        const candidate = change(best, at, size);
        const isSame = Buffer.compare(candidate, best) === 0;
        // What was removed makes place for what came next.
        if (isSame || !(await attempt(candidate)) || change === clearRange) at += size;
      }
    }
  }
  return best;
}

function removeRange(bytes: Uint8Array, at: number, size: number): Uint8Array {
  return join(bytes.subarray(0, at), bytes.subarray(at + size));
}

function clearRange(bytes: Uint8Array, at: number, size: number): Uint8Array {
  return Uint8Array.from(bytes).fill(0, at, at + size);
}
