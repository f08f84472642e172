// Picks the fewest and smallest inputs that together reach everything known: a small set for the
// repository (branches, once or several times) and a larger one for the cache (all classes of counts).

import type { LoadedTarget } from "./bundle.ts";
import { hitClass } from "./campaign.ts";
import { runInput } from "./run.ts";

export interface MinimalSets {
  readonly kept: readonly Uint8Array[];
  readonly cached: readonly Uint8Array[];
  /** Inputs that have a finding are in neither set. */
  readonly withFindings: number;
}

export async function minimizeInputs(
  loaded: LoadedTarget,
  inputs: readonly Uint8Array[],
): Promise<MinimalSets> {
  const bySize = [...inputs].sort((a, b) => a.length - b.length || Buffer.compare(a, b));
  const seen = { kept: new Set<number>(), cached: new Set<number>() };
  const sets: { kept: Uint8Array[]; cached: Uint8Array[] } = { kept: [], cached: [] };
  let withFindings = 0;
  for (const input of bySize) {
    const { finding } = await runInput(loaded, input);
    if (finding !== null) {
      withFindings += 1;
      continue;
    }
    const { points, counters } = loaded;
    const isNew = { kept: false, cached: false };
    for (let i = 0; i < points.length; i++) {
      const hits = counters[i]!;
      if (hits === 0) continue;
      for (const [set, feature] of [
        ["kept", 2 * i + Math.min(1, hits - 1)],
        ["cached", 8 * i + hitClass(hits)],
      ] as const) {
        if (seen[set].has(feature)) continue;
        seen[set].add(feature);
        isNew[set] = true;
      }
    }
    for (const set of ["kept", "cached"] as const) if (isNew[set]) sets[set].push(input);
  }
  return { ...sets, withFindings };
}
