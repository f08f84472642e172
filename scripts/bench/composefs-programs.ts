// Command lines of both sides: our executable under the tools' names, and the C programs of the tools
// root (test/vm/tools-root.ts).
//
// The C programs run through the tools root's own dynamic loader and not by chroot: entering a namespace
// would cost more than some of them take.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { EXECUTABLE } from "../build.ts";
import type { Command } from "./measure.ts";

type ToolName = "mkcomposefs" | "composefs-info";

export function ourTool(name: ToolName, words: readonly string[]): Command {
  return { argv: [EXECUTABLE, ...words], argv0: name };
}

/** Loader and library directory by `process.arch`. */
const PLATFORMS: Readonly<Record<string, readonly [string, string]>> = {
  x64: ["lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"],
  arm64: ["lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu"],
};

export function cTool(
  toolsRoot: string,
  name: ToolName | "fsverity",
  words: readonly string[],
): Command {
  const platform = PLATFORMS[process.arch];
  if (platform === undefined) throw new Error(`No tools root for ${process.arch}`);
  const [loader, libraries] = platform.map((path) => join(toolsRoot, path)) as [string, string];
  const program = join(toolsRoot, "usr/bin", name);
  if (!existsSync(program)) throw new Error(`The tools root has no "${name}"`);
  return { argv: [loader, "--library-path", libraries, program, ...words] };
}
