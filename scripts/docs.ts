// `npm run docs`: writes the documents that are made from the code. test/tidy.test.ts compares.

import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../test/support/source-tree.ts";
import { hostJsonSchema } from "../updater/spec/host.ts";
import { renderCliReference } from "./docs/cli.ts";
import { renderFormats } from "./docs/formats.ts";
import { renderJournal } from "./docs/journal.ts";
import { renderArchitecture } from "./docs/modules.ts";

/** Path -> text of every made document. */
export function renderDocs(): ReadonlyMap<string, string> {
  const schema = "docs/host-v1.schema.json";
  return new Map([
    ["docs/architecture.md", renderArchitecture()],
    ["docs/cli.md", renderCliReference()],
    ["docs/formats.md", renderFormats()],
    ["docs/journal.md", renderJournal()],
    [schema, format(schema, JSON.stringify(hostJsonSchema(), null, 2))],
  ]);
}

/** As the formatter wants it, which looks at every JSON file of the project. */
function format(path: string, text: string): string {
  const biome = join(ROOT, "node_modules/.bin/biome");
  const result = spawnSync(biome, ["format", `--stdin-file-path=${path}`], {
    cwd: ROOT,
    input: text,
    encoding: "utf8",
  });
  if (result.status !== 0) throw new Error(`Cannot format ${path}: ${result.stderr}`);
  return result.stdout;
}

if (import.meta.main) {
  for (const [path, text] of renderDocs()) writeFileSync(join(ROOT, path), text);
}
