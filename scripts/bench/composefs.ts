// `npm run bench:composefs [-- [--rounds=N] [dump|info|directory]…]`: our composefs tools against the C
// programs, as Markdown on stdout.
//
// Makes its inputs the first time (a Debian tree of 1 GB, 4 GB in all, kept in .cache). Only ratios are
// printed: compare a row with itself from another day, not seconds with seconds.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../../test/support/cache.ts";
import { buildExecutable } from "../build.ts";
import { type BaseMemory, compareAll, measureBase } from "./comparison.ts";
import { directoryRows } from "./composefs-directory.ts";
import { dumpRows } from "./composefs-dump.ts";
import { type ComposefsInputs, ensureComposefsInputs } from "./composefs-inputs.ts";
import { listingRows } from "./composefs-listing.ts";
import { cTool, ourTool } from "./composefs-programs.ts";

const GROUPS = { dump: dumpRows, info: listingRows, directory: directoryRows } as const;
const DEFAULT_ROUNDS = 5;
const note = (line: string) => console.error(`. ${line}`);

const words = process.argv.slice(2);
const rounds = Number(
  words.find((word) => word.startsWith("--rounds="))?.slice(9) ?? DEFAULT_ROUNDS,
);
const wanted = words.filter((word) => !word.startsWith("--"));
const names = Object.keys(GROUPS) as (keyof typeof GROUPS)[];
const chosen = wanted.length === 0 ? names : names.filter((name) => wanted.includes(name));
if (!(rounds >= 1) || chosen.length < wanted.length) {
  throw new Error(`usage: composefs.ts [--rounds=N] [${names.join("|")}]…`);
}

await buildExecutable();
const scratch = mkdtempSync(join(cacheDir, "bench-"));
try {
  const inputs = await ensureComposefsInputs(scratch, note);
  const base = await measureBases(inputs);
  const rows = chosen.flatMap((name) => GROUPS[name](inputs));
  console.log(`Ours to C, medians of ${rounds} alternating runs; below 1 ours needs less.\n`);
  console.log(await compareAll(rows, base, rounds, note));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** An image of a root without anything in it. */
async function measureBases({ toolsRoot }: ComposefsInputs): Promise<BaseMemory> {
  const dump = join(scratch, "empty.dump");
  const image = join(scratch, "empty.erofs");
  writeFileSync(dump, "/ 0 40755 2 0 0 0 0.0 - - -\n");
  const args = ["--from-file", dump, image];
  return {
    ours: await measureBase({ ...ourTool("mkcomposefs", args), result: image }),
    theirs: await measureBase({ ...cTool(toolsRoot, "mkcomposefs", args), result: image }),
  };
}
