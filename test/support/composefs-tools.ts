// Runs the same command lines through our composefs tools and through the real ones.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runTool } from "../vm/tools-root.ts";
import { run } from "./run.ts";

export interface ToolAnswer {
  readonly out: Buffer;
  readonly err: string;
  readonly code: number;
}

const ROOT = resolve(import.meta.dirname, "../..");

/** Many command lines in one process, because starting one takes longer than running it. */
const OURS = `
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { runTool } from "${ROOT}/updater/cli/tools.ts";
const lines = JSON.parse(readFileSync("lines.json", "utf8"));
for (const [number, line] of lines.entries()) {
  const isStrict = line[0] === "CFS_PARSE_STRICT=1";
  const [name, ...argv] = isStrict ? line.slice(1) : line;
  if (isStrict) process.env.CFS_PARSE_STRICT = "1";
  else delete process.env.CFS_PARSE_STRICT;
  for (const [fd, kind] of [[1, "out"], [2, "err"]]) {
    closeSync(fd);
    // The lowest number that is free.
    if (openSync(number + "." + kind, "w") !== fd) process.exit(3);
  }
  writeFileSync(number + ".code", String(runTool(name, argv)));
}`;

/** Each command line, "CFS_PARSE_STRICT=1" before it or not, in the new directory `cwd`, by our tools. */
export async function askOurTools(cwd: string, lines: readonly string[][]): Promise<ToolAnswer[]> {
  mkdirSync(cwd);
  writeFileSync(join(cwd, "lines.json"), JSON.stringify(lines));
  await run([process.execPath, "-e", OURS], { cwd });
  return readAnswers(cwd, lines.length);
}

/** The same by Debian's. */
export async function askRealTools(cwd: string, lines: readonly string[][]): Promise<ToolAnswer[]> {
  mkdirSync(cwd);
  const commands = lines.map(
    (argv, i) =>
      `${argv.map(quoteWord).join(" ")} >${i}.out 2>${i}.err </dev/null; echo $? >${i}.code`,
  );
  writeFileSync(join(cwd, "lines.sh"), `cd ${quote(cwd)}\n${commands.join("\n")}\n`);
  await runTool(["sh", join(cwd, "lines.sh")]);
  return readAnswers(cwd, lines.length);
}

/** Assignments before the command work unquoted only. */
function quoteWord(word: string, index: number): string {
  return index === 0 && word.includes("=") ? word : quote(word);
}

function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function readAnswers(cwd: string, count: number): ToolAnswer[] {
  return Array.from({ length: count }, (_, i) => ({
    out: readFileSync(join(cwd, `${i}.out`)),
    err: readFileSync(join(cwd, `${i}.err`), "latin1"),
    code: Number(readFileSync(join(cwd, `${i}.code`), "utf8")),
  }));
}
