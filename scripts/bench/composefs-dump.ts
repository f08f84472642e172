// `mkcomposefs --from-file` against C's.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ComparisonRow } from "./comparison.ts";
import type { ComposefsInputs } from "./composefs-inputs.ts";
import { cTool, ourTool } from "./composefs-programs.ts";

export function dumpRows({ dumps, scratch, toolsRoot }: ComposefsInputs): readonly ComparisonRow[] {
  const ours = join(scratch, "ours.erofs");
  const theirs = join(scratch, "theirs.erofs");
  return Object.values(dumps).map(({ label, path, entries }) => ({
    label: `image from a dump, ${label} (${entries} entries)`,
    entries,
    ours: {
      ...ourTool("mkcomposefs", ["--from-file", path, ours]),
      result: ours,
      prepare: () => rmSync(ours, { force: true }),
    },
    theirs: {
      ...cTool(toolsRoot, "mkcomposefs", ["--from-file", path, theirs]),
      result: theirs,
      prepare: () => rmSync(theirs, { force: true }),
    },
  }));
}
