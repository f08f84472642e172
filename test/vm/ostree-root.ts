// The ostree root: a Debian forky tree with the real ostree 2026.4 (built with composefs) and GLib's
// GVariant for Python, entered as the tools root is. A tree of its own, because forky's libostree
// wants forky's C library, which would make the tools root another release. Built once per recipe.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, type RunOptions, run } from "../support/run.ts";
import { debootstrap } from "./debootstrap.ts";
import { chrootCommand } from "./tools-root.ts";

const packages = ["ostree", "ostree-boot", "composefs", "fsverity", "attr", "python3-gi"];

/** Builds the ostree root when it is not there yet and returns its path. */
export async function ensureOstreeRoot(onLine?: Progress): Promise<string> {
  const path = join(cacheDir, `ostree-root-${cacheKey("ostree-root 1", packages)}`);
  return cachedDir(path, async (dir) => {
    onLine?.("ostree root: installing Debian forky with ostree");
    await debootstrap({ root: dir, variant: "essential", suites: ["forky"], packages, onLine });
    await mkdir(join(dir, cacheDir), { recursive: true });
  });
}

/** Runs a program of the ostree root; paths under `.cache/` and /tmp mean the same as outside. */
export async function runOstreeTool(
  argv: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  return run(chrootCommand(await ensureOstreeRoot(options.onLine), argv), options);
}
