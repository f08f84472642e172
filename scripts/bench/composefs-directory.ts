// `mkcomposefs DIRECTORY` against C's, with and without a digest store, and digests of 2 GB of files.
//
// Everything is in the page cache after the first round, so it is threads and processor time that count.
// C's mkcomposefs uses as many threads as ours; its measure-file and fsverity use one.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { ComparisonRow, Contender } from "./comparison.ts";
import type { ComposefsInputs } from "./composefs-inputs.ts";
import { cTool, ourTool } from "./composefs-programs.ts";
import type { Command } from "./measure.ts";

export function directoryRows(inputs: ComposefsInputs): readonly ComparisonRow[] {
  return [
    buildRow(inputs, "image from a directory", []),
    buildRow(inputs, "image from a directory, one thread", ["--threads=1"]),
    buildRow(inputs, "image from a directory, `--digest-store`", [], "objects"),
    digestRow(inputs, "`measure-file`, 2 GB", "composefs-info", "measure-file"),
    digestRow(inputs, "`measure-file` to `fsverity digest`, 2 GB", "fsverity", "digest"),
  ];
}

/** `store` is the end of the name of a digest store, which every run finds empty. */
function buildRow(
  { tree, scratch, toolsRoot }: ComposefsInputs,
  label: string,
  options: readonly string[],
  store?: string,
): ComparisonRow {
  const contend = (name: string, makeCommand: (words: readonly string[]) => Command): Contender => {
    const image = join(scratch, `${name}.erofs`);
    const objects = join(scratch, `${name}.${store}`);
    const words = store === undefined ? options : [...options, `--digest-store=${objects}`];
    return {
      ...makeCommand([...words, tree.path, image]),
      result: image,
      prepare: () => {
        rmSync(image, { force: true });
        if (store !== undefined) rmSync(objects, { recursive: true, force: true });
      },
    };
  };
  return {
    label,
    entries: tree.entries,
    ours: contend("ours", (words) => ourTool("mkcomposefs", words)),
    theirs: contend("theirs", (words) => cTool(toolsRoot, "mkcomposefs", words)),
  };
}

/** fsverity prints names as well: its output is not compared. */
function digestRow(
  { scratch, toolsRoot, files }: ComposefsInputs,
  label: string,
  rival: "composefs-info" | "fsverity",
  verb: string,
): ComparisonRow {
  const result = (name: string) => (rival === "fsverity" ? null : join(scratch, `${name}.txt`));
  return {
    label,
    entries: null,
    ours: {
      ...ourTool("composefs-info", ["measure-file", ...files]),
      result: result("ours"),
      printsResult: true,
    },
    theirs: {
      ...cTool(toolsRoot, rival, [verb, ...files]),
      result: result("theirs"),
      printsResult: true,
    },
  };
}
