// Our `bootc internals ostree` called within the test, and the real ostree in its root.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeOstreeCommand } from "../../updater/cli/ostree.ts";
import { runOstreeTool } from "../vm/ostree-root.ts";

/** Lines on standard output; rejects as the program fails. */
export async function runOurs(
  argv: readonly string[],
  lines: string[] = [],
  isInteractive = false,
): Promise<string[]> {
  const nothing = () => {};
  const command = makeOstreeCommand({
    write: nothing,
    line: (text) => void lines.push(text),
    note: nothing,
    progress: nothing,
    columns: null,
    isInteractive,
  });
  await command.exitOverride().parseAsync([...argv], { from: "user" });
  return lines;
}

export interface Answer {
  readonly out: string;
  readonly code: number;
}

/** Shell command lines in `scratch`, one after the other in one process of the ostree root. */
export async function runReal(scratch: string, lines: readonly string[]): Promise<Answer[]> {
  const script = [
    "export LC_ALL=C.UTF-8 TZ=UTC",
    ...lines.map((line, i) => `{ ${line}\n} >${i}.out 2>${i}.err </dev/null; echo $? >${i}.code`),
  ];
  writeFileSync(join(scratch, "lines.sh"), `cd ${scratch}\n${script.join("\n")}\n`);
  await runOstreeTool(["bash", join(scratch, "lines.sh")]);
  return lines.map((_, i) => ({
    out: readFileSync(join(scratch, `${i}.out`), "utf8"),
    code: Number(readFileSync(join(scratch, `${i}.code`), "utf8")),
  }));
}

/** As `runReal`, where every line has to succeed; gives what they printed, without the last line break. */
export async function runRealWell(scratch: string, lines: readonly string[]): Promise<string[]> {
  const answers = await runReal(scratch, lines);
  return answers.map(({ out, code }, i) => {
    if (code === 0) return out.trimEnd();
    const reason = readFileSync(join(scratch, `${i}.err`), "utf8");
    throw new Error(`${lines[i]}: exit code ${code}: ${reason}`);
  });
}
