// The list of modules in docs/architecture.md, between two marks: each folder, each file, and the
// first sentence of the file's own header comment.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  listProjectFiles,
  ROOT,
  readHeaderComment,
  readSource,
} from "../../test/support/source-tree.ts";

const BEGIN = "<!-- BEGIN MODULES: made by `npm run docs` from the files' first sentences -->";
const END = "<!-- END MODULES -->";

/** docs/architecture.md with a fresh list. */
export function renderArchitecture(): string {
  const text = readFileSync(join(ROOT, "docs/architecture.md"), "utf8");
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin)
    throw new Error("docs/architecture.md has lost the marks of its list");
  return `${text.slice(0, begin)}${BEGIN}\n\n${renderModules()}\n${text.slice(end)}`;
}

function renderModules(): string {
  const folders = new Map<string, string[]>();
  for (const path of listProjectFiles()) {
    if (!/^(shared|initrd|updater)\/.*\.ts$/.test(path) || /\.(test|d)\.ts$/.test(path)) continue;
    const folder = dirname(path);
    const line = `- \`${path.slice(folder.length + 1)}\`: ${firstSentence(path)}`;
    folders.set(folder, [...(folders.get(folder) ?? []), line]);
  }
  const names = [...folders.keys()].sort();
  return names.map((name) => `### ${name}/\n\n${folders.get(name)!.join("\n")}\n`).join("\n");
}

/** Without the full stop, and without a source that is named in brackets. */
function firstSentence(path: string): string {
  const [paragraph = ""] = readHeaderComment(readSource(path)).split("\n\n");
  const text = paragraph.replaceAll("\n", " ");
  const sentence = /^.*?\.(?=\s|$)/.exec(text)?.[0].slice(0, -1) ?? text;
  return sentence.replace(/ \([^()]*\)$/, "");
}
