// `composefs-info ls`, `dump` and `objects` against C's, on images that C made.

import { join } from "node:path";
import type { ComparisonRow } from "./comparison.ts";
import type { ComposefsInputs } from "./composefs-inputs.ts";
import { cTool, ourTool } from "./composefs-programs.ts";

export function listingRows(inputs: ComposefsInputs): readonly ComparisonRow[] {
  const { dumps, scratch, toolsRoot } = inputs;
  const ours = join(scratch, "ours.txt");
  const theirs = join(scratch, "theirs.txt");
  return [dumps.real, dumps.large].flatMap(({ label, image, entries }) =>
    ["ls", "dump", "objects"].map((verb) => ({
      label: `\`composefs-info ${verb}\`, ${label}`,
      entries,
      ours: { ...ourTool("composefs-info", [verb, image]), result: ours, printsResult: true },
      theirs: {
        ...cTool(toolsRoot, "composefs-info", [verb, image]),
        result: theirs,
        printsResult: true,
      },
    })),
  );
}
