// The systemd tools root: a small Debian trixie tree with the real journald, logind, D-Bus and systemd-analyze, for
// tests that run one of them by itself in namespaces. Built once per recipe.

import { join } from "node:path";
import { debootstrap } from "../vm/debootstrap.ts";
import { cacheDir, cachedDir, cacheKey } from "./cache.ts";
import type { Progress } from "./run.ts";

const packages = ["systemd", "dbus", "libpam-systemd"];

/** Builds the tree when it is not there yet and returns its path. */
export async function ensureSystemdTools(onLine?: Progress): Promise<string> {
  const path = join(cacheDir, `systemd-tools-${cacheKey("systemd-tools 1", packages)}`);
  return cachedDir(path, async (dir) => {
    onLine?.("systemd tools: installing Debian trixie with systemd and D-Bus");
    await debootstrap({ root: dir, variant: "essential", suites: ["trixie"], packages, onLine });
  });
}
