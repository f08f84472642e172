// A file tree as text, for comparing: a dump in which xattrs are sorted, because their order in an image
// or a dump means nothing.

import { formatDump } from "../../shared/format/tree/dump-format.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";

export function printTree(root: DirectoryNode, dialect: "c" | "rust" = "c"): string {
  let text = "";
  for (const line of formatDump(root, { dialect })) {
    const fields = line.trimEnd().split(" ");
    text += `${[...fields.slice(0, 11), ...fields.slice(11).sort()].join(" ")}\n`;
  }
  return text;
}
