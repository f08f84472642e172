// The esbuild bundles that go into the executable: main, the programs initrd, tools and updater, and
// what runs in threads of their own (`WORKERS`).
//
// main imports the programs lazily under their names, so starting one never evaluates the others. Threads
// are started by file name, beside the module that starts them. esbuild's metafiles say what is in each
// bundle; test/tidy.test.ts proves the import rules from them. Invariant: same inputs give the same bytes,
// wherever the checkout lies.

import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { build, type Metafile, type Plugin, transform } from "esbuild";
import { avoidLastTier } from "./compile-tiers.ts";

export const ROOT = resolve(import.meta.dirname, "../..");

/** Bundle name -> entry point, relative to ROOT. */
const ENTRY_POINTS = {
  main: "main.ts",
  initrd: "initrd/main.ts",
  tools: "updater/cli/tools.ts",
  updater: "updater/cli/program.ts",
  "hash-worker": "updater/composefs/hash-worker.ts",
  "object-worker": "updater/image/object-worker.ts",
  "decode-worker": "updater/image/decode-worker.ts",
} as const;
export type BundleName = keyof typeof ENTRY_POINTS;
/** Nobody imports them: the compiler must be told. */
export const WORKERS: readonly BundleName[] = ["hash-worker", "object-worker", "decode-worker"];
const SHORT_LIVED: readonly BundleName[] = ["tools", "updater", ...WORKERS];

export interface Bundle {
  readonly name: BundleName;
  readonly code: Uint8Array;
  readonly metafile: Metafile;
}

/** Leaves the programs out of main.ts; the file names are those that build.ts writes. */
const keepProgramsApart: Plugin = {
  name: "keep-programs-apart",
  setup(api) {
    for (const name of ["initrd", "tools", "updater"] as const) {
      const filter = new RegExp(`^\\./${ENTRY_POINTS[name].replaceAll(".", "\\.")}$`);
      api.onResolve({ filter }, (args) =>
        args.kind === "dynamic-import" ? { path: `./${name}.js`, external: true } : undefined,
      );
    }
  },
};

/** Packages written as CommonJS call `require` for Node's modules; Bun has it, esbuild must know. */
const REQUIRE_BANNER =
  'import{createRequire as $createRequire}from"node:module";const require=$createRequire(import.meta.url);';

const MINIFY = { minifySyntax: true, minifyWhitespace: true } as const;

/** Bundles one program, or main, in memory. Throws esbuild's error, which has printed itself. */
export async function bundle(name: BundleName): Promise<Bundle> {
  const isShortLived = SHORT_LIVED.includes(name);
  const result = await build({
    absWorkingDir: ROOT,
    entryPoints: { [name]: ENTRY_POINTS[name] },
    outdir: "dist/bundle",
    write: false,
    metafile: true,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "esnext",
    mainFields: ["module", "main"],
    external: ["bun:*"],
    ...(isShortLived ? {} : MINIFY),
    logLevel: "warning",
    // Bun would fill these in with the path of the checkout.
    define: { __filename: '"/bootc"', __dirname: '"/"' },
    plugins: name === "main" ? [keepProgramsApart] : [],
    banner: name === "updater" ? { js: REQUIRE_BANNER } : {},
  });
  const [output] = result.outputFiles;
  if (output === undefined || result.outputFiles.length !== 1) {
    throw new Error(`esbuild wrote ${result.outputFiles.length} files for ${name}, expected 1`);
  }
  if (!isShortLived) return { name, code: output.contents, metafile: result.metafile };
  const marked = avoidLastTier(output.text);
  const minified = await transform(marked, { format: "esm", target: "esnext", ...MINIFY });
  const code = Buffer.from(minified.code);
  for (const each of Object.values(result.metafile.outputs)) each.bytes = code.length;
  return { name, code, metafile: result.metafile };
}

export async function bundleAll(): Promise<readonly Bundle[]> {
  return Promise.all((Object.keys(ENTRY_POINTS) as BundleName[]).map(bundle));
}

/** Hex SHA-256 over everything that determines the bundles' effect. */
export function hashBundles(bundles: readonly Bundle[]): string {
  const hash = createHash("sha256");
  for (const { name, code } of bundles) hash.update(`${name} ${code.length}\n`).update(code);
  return hash.digest("hex");
}
