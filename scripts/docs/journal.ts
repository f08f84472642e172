// The catalogue of journal records in docs/journal.md, between two marks, from the declarations in
// updater/journal/events.ts.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../test/support/source-tree.ts";
import { EVENTS } from "../../updater/journal/events.ts";

const BEGIN = "<!-- BEGIN CATALOGUE: made by `npm run docs` from updater/journal/events.ts -->";
const END = "<!-- END CATALOGUE -->";
const PRIORITIES = { 3: "error", 4: "warning", 5: "notice", 6: "info" } as const;

/** docs/journal.md with a fresh catalogue. */
export function renderJournal(): string {
  const text = readFileSync(join(ROOT, "docs/journal.md"), "utf8");
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error("docs/journal.md has lost the marks of its table");
  return `${text.slice(0, begin)}${BEGIN}\n\n${renderCatalogue()}\n\n${text.slice(end)}`;
}

function renderCatalogue(): string {
  const rows = Object.values(EVENTS).map(({ id, bootcId, priority, when, fields }) => {
    const names = fields.map((field) => `\`${field}\``).join(", ");
    const theirs = bootcId === null ? "" : `\`${bootcId}\``;
    return `| \`${id}\` | ${PRIORITIES[priority]} | ${when} | ${names} | ${theirs} |`;
  });
  return [
    "| `MESSAGE_ID` | priority | written when | fields, each with `BOOTC_` in front | `F_MESSAGE_ID` |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
  ].join("\n");
}
