// Runs the commands of a document, as somebody who follows it would: every "$ " line of its console blocks, in order,
// in one shell. Programs come from the tools trees, `bootc` from the sources.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chrootCommand, ensureToolsRoot } from "../vm/tools-root.ts";
import { ensureImageTools } from "./image-tools.ts";
import { run } from "./run.ts";
import { ROOT } from "./source-tree.ts";

/** Lines that end in a backslash go on in the next. */
export function readDocCommands(document: string): readonly string[] {
  const text = readFileSync(join(ROOT, document), "utf8");
  const blocks = [...text.matchAll(/^( *)```console\n(.*?)^\1```$/gms)].map(
    ([, , block]) => block!,
  );
  return blocks.flatMap((block) =>
    [...block.matchAll(/^ *\$ ((?:.*\\\n)*.*)$/gm)].map(([, command]) => command!),
  );
}

/** Program -> words that come first whenever it is called. */
export type Programs = Readonly<Record<string, readonly string[]>>;

/** A directory for PATH with `bootc` and programs of the trees, which find the working directory below /tmp. */
export async function makePrograms(
  directory: string,
  programs: { readonly tools: Programs; readonly image: Programs },
): Promise<string> {
  mkdirSync(directory);
  const bun = [join(ROOT, "node_modules/.bin/bun"), join(ROOT, "main.ts")];
  writeProgram(directory, "bootc", bun);
  const trees = [
    [await ensureToolsRoot(), programs.tools],
    [await ensureImageTools(), programs.image],
  ] as const;
  for (const [tree, named] of trees) {
    for (const [name, words] of Object.entries(named)) {
      const inside = ["sh", "-c", 'cd "$0" && PATH=/usr/sbin:/usr/bin:/sbin:/bin exec "$@"'];
      const command = chrootCommand(tree, inside).map(quote).join(" ");
      const program = [name, ...words].map(quote).join(" ");
      writeScript(directory, name, `exec ${command} "$PWD" ${program} "$@"`);
    }
  }
  return directory;
}

/** Runs them in one shell, which ends at the first that fails; returns all output. */
export async function runDocCommands(
  commands: readonly string[],
  place: { readonly directory: string; readonly programs: string },
  environment: Readonly<Record<string, string>>,
): Promise<string> {
  const path = `${place.programs}:${process.env["PATH"]}`;
  const script = ["set -eux", ...commands].join("\n");
  return await run(["bash", "-c", script], {
    cwd: place.directory,
    env: { ...environment, PATH: path },
  });
}

function writeProgram(directory: string, name: string, command: readonly string[]): void {
  writeScript(directory, name, `exec ${command.map(quote).join(" ")} "$@"`);
}

function writeScript(directory: string, name: string, line: string): void {
  const path = join(directory, name);
  writeFileSync(path, `#!/bin/sh\n${line}\n`);
  chmodSync(path, 0o755);
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
