// `composefs-dump IMAGE COPY`: reads an image and writes it again in its own version. The program is part
// of composefs' test suite, which calls it beside mkcomposefs; the copy must be the same bytes.

import { UsageError } from "../../shared/error.ts";
import { readErofs } from "../../shared/format/erofs/reader.ts";
import { planErofs } from "../../shared/format/erofs/writer.ts";
import { readImageFile, writeImageFile } from "../composefs/image-file.ts";

export const COMPOSEFS_DUMP_USAGE = "Usage: composefs-dump IMAGE COPY\n";

export function runComposefsDump(argv: readonly string[]): number {
  const [source, copy] = argv;
  if (source === undefined) throw new UsageError("missing", "No source path specified");
  if (copy === undefined) throw new UsageError("missing", "No destination path specified");
  const { version, root } = readErofs(readImageFile(source), { dialect: "c" });
  writeImageFile(copy, planErofs(root, { version, dialect: version === 2 ? "rust" : "c" }).write);
  return 0;
}
