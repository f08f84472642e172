// Bundles one target with instrumented product code and loads it.
//
// Invariant: what runs is the source as it is at this moment; nothing is cached between runs. The
// file has to exist while the process runs (import() wants one) and is removed right after loading.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { build, type Plugin } from "esbuild";
import { cacheDir, projectDir } from "../support/cache.ts";
import { instrumentSource, type Point } from "./instrument.ts";
import type { FuzzTarget } from "./target.ts";

/** More than any bundle has. */
const MAX_POINTS = 1 << 16;

/** Sums since the last reset, and what ends a run. */
export interface Meter {
  steps: number;
  maxSteps: number;
  bytes: number;
  maxBytes: number;
  largestBytes: number;
}

export interface LoadedTarget {
  readonly name: string;
  readonly target: FuzzTarget;
  readonly points: readonly Point[];
  readonly counters: Uint32Array;
  readonly meter: Meter;
}

/** What the inserted code calls. Elements of typed arrays count as one byte, views as none. */
const RUNTIME = `
const $c = new Uint32Array(${MAX_POINTS});
const $m = { steps: 0, maxSteps: Infinity, bytes: 0, maxBytes: Infinity, largestBytes: 0 };
function $s(i) {
  $c[i]++;
  if (++$m.steps > $m.maxSteps) $stop("steps", $m.steps);
}
function $n(size) {
  const isShared = size instanceof ArrayBuffer;
  const bytes = typeof size === "number" ? size : isShared ? 0 : (size?.byteLength ?? size?.length ?? 0);
  $m.bytes += bytes;
  if (bytes > $m.largestBytes) $m.largestBytes = bytes;
  if ($m.bytes > $m.maxBytes) $stop("bytes", $m.bytes);
  return size;
}
function $stop(what, count) {
  const error = new Error("Too many " + what + ": " + count);
  error.name = "CostError";
  throw error;
}
export { $c, $m };
`;

/** Loads `targets/<name>.ts` with what it imports. */
export async function loadTarget(name: string): Promise<LoadedTarget> {
  const points: Point[] = [];
  const result = await build({
    absWorkingDir: projectDir,
    entryPoints: [`test/fuzz/targets/${name}.ts`],
    write: false,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "esnext",
    mainFields: ["module", "main"],
    external: ["bun:*"],
    logLevel: "warning",
    plugins: [instrumentProduct(points)],
    banner: { js: RUNTIME },
  });
  if (points.length > MAX_POINTS) throw new Error(`${points.length} points, at most ${MAX_POINTS}`);
  const folder = join(cacheDir, "fuzz/build");
  const path = join(folder, `${name}-${process.pid}.mjs`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, result.outputFiles[0]!.contents);
  try {
    const loaded = await import(path);
    return { name, target: loaded.target, points, counters: loaded.$c, meter: loaded.$m };
  } finally {
    rmSync(path);
  }
}

function instrumentProduct(points: Point[]): Plugin {
  return {
    name: "instrument-product",
    setup(api) {
      api.onLoad({ filter: /\/(?:shared|initrd|updater)\/.*\.ts$/ }, ({ path }) => {
        const shown = relative(projectDir, path);
        if (!/^(?:shared|initrd|updater)\//.test(shown)) return undefined;
        const text = readFileSync(path, "utf8");
        return { contents: instrumentSource(shown, text, points), loader: "ts" };
      });
    },
  };
}
