// The demo's OS images with this project's own files in them, built from the current tree.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { buildExecutable, EXECUTABLE } from "../../scripts/build.ts";
import { installedSources, installFiles } from "../../scripts/install-files.ts";
import { projectDir } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { ensureOsImages, type OsImage } from "./os-image.ts";

/** Builds the executable and the images as far as their inputs changed. */
export async function ensureProductImages(
  onLine: Progress,
): Promise<{ v1: OsImage; v2: OsImage; v3: OsImage }> {
  onLine("executable: building dist/bootc");
  await buildExecutable();
  const hash = createHash("sha256");
  for (const file of [EXECUTABLE, ...installedSources().map((path) => join(projectDir, path))]) {
    hash.update(readFileSync(file)).update("\0");
  }
  return await ensureOsImages({
    installFiles: async (root) => installFiles(root, EXECUTABLE),
    inputsKey: hash.digest("hex"),
    onLine,
  });
}
