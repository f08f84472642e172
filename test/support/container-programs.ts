// Questions to the real skopeo and podman: many command lines in one chroot of the image tools, without a network. What
// they try is in their debug logs.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { chrootCommand } from "../vm/tools-root.ts";
import { ensureImageTools } from "./image-tools.ts";
import { run } from "./run.ts";

/** A new directory with files, below /tmp, which is the same inside the chroot. */
export function makeDirectory(files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), "bootc-registry-config-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(directory, dirname(path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
}

export interface Question {
  readonly program?: "skopeo" | "podman";
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** What the program writes to both outputs, for each question. */
export async function ask(questions: readonly Question[]): Promise<readonly string[]> {
  const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
  const lines = questions.map(({ program = "skopeo", args, environment = {} }, index) => {
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${quote(value)}`);
    const command = ["env", ...variables, program, ...args.map(quote)].join(" ");
    return `printf '\\n=== ${index}\\n'; ${command} 2>&1 || true`;
  });
  const script = join(makeDirectory({ script: lines.join("\n") }), "script");
  const command = chrootCommand(await ensureImageTools(), ["sh", script]);
  const output = await run(["unshare", "--net", "--", ...command], {
    env: { HOME: "/nowhere", XDG_RUNTIME_DIR: "" },
  });
  const answers = output.split(/^=== \d+\n/m).slice(1);
  expect(answers).toHaveLength(questions.length);
  return answers;
}

/** A line of a log as it was before it was quoted. */
export const unquote = (text: string) => text.replaceAll('\\"', '"');

/** skopeo's command line that looks for an image and tells how. */
export const inspect = (reference: string, conf: string) => [
  ...["--debug", "--registries-conf", conf],
  ...["inspect", "--raw", `docker://${reference}`],
];
