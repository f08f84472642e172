// `bun scripts/bench/write-image.ts DUMP IMAGE`: what `mkcomposefs --from-file` does, with our writer.

import { readFileSync, writeFileSync } from "node:fs";
import { writeErofsFromDump } from "../../shared/format/erofs/writer.ts";

const [dump, image] = process.argv.slice(2);
if (dump === undefined || image === undefined) throw new Error("usage: write-image.ts DUMP IMAGE");
const format = { version: 0, dialect: "c" } as const;
writeFileSync(image, writeErofsFromDump(readFileSync(dump), { dialect: "c" }, format));
