// `bun scripts/bench/import-image.ts LAYOUT REPOSITORY`: pulls an image and builds its boot image, as
// staging does, into a repository without fs-verity; prints "<ms> <peak resident bytes>".

import { readFileSync } from "node:fs";
import { ensureRepository } from "../../shared/store/repository.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";

const [layout, path] = process.argv.slice(2);
if (layout === undefined || path === undefined) {
  throw new Error("usage: import-image.ts LAYOUT REPOSITORY");
}
using repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
const started = performance.now();
await makeBootImage(repo, await pullImage(repo, openSource(makeImageReference("oci", layout))));
const tookMs = performance.now() - started;
const peakKib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
console.log(`${Math.round(tookMs)} ${Number(peakKib) * 1024}`);
