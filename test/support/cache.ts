// The project's `.cache/`: things that are costly to make, each named by a hash of its recipe.
// Invariants: an entry appears whole or not at all (built beside, then renamed); what a dead
// builder left is removed; an entry is never changed after it appeared.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { mkdir, rename, rm, utimes } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

export const projectDir = resolve(import.meta.dirname, "../..");
export const cacheDir = join(projectDir, ".cache");

// Enough to go back and forth between two states of the code without making things again.
const keptPerKind = 3;

/** A short key that changes when any of the parts does. */
export function cacheKey(...parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

const building = new Map<string, Promise<string>>();

/**
 * The entry's path; `build` fills the empty directory it is given when there is no entry yet. Of
 * entries that differ in their key only (NAME-KEY), the last used few stay.
 */
export async function cachedDir(
  path: string,
  build: (dir: string) => Promise<void>,
): Promise<string> {
  if (existsSync(path)) {
    const now = new Date();
    await utimes(path, now, now);
    return path;
  }
  const begun = building.get(path) ?? buildEntry(path, build);
  building.set(path, begun);
  return begun.finally(() => building.delete(path));
}

async function buildEntry(path: string, build: (dir: string) => Promise<void>): Promise<string> {
  await removeAbandoned(path);
  const temporary = `${path}.tmp-${process.pid}`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  try {
    await build(temporary);
    await rename(temporary, path).catch((error) => {
      // Somebody else was faster: theirs is as good as ours.
      if (!existsSync(path)) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  await removeUnused(path);
  return path;
}

async function removeUnused(path: string): Promise<void> {
  const prefix = basename(path).replace(/[0-9a-f]{16}$/, "");
  const sameKind = readdirSync(dirname(path)).filter(
    (name) => name.startsWith(prefix) && /^[0-9a-f]{16}$/.test(name.slice(prefix.length)),
  );
  const usedAt = (name: string) => statSync(join(dirname(path), name)).mtimeMs;
  const entries = sameKind.map((name) => ({ name, used: usedAt(name) }));
  entries.sort((a, b) => b.used - a.used);
  for (const { name } of entries.slice(keptPerKind)) {
    await rm(join(dirname(path), name), { recursive: true, force: true });
  }
}

async function removeAbandoned(path: string): Promise<void> {
  if (!existsSync(dirname(path))) return;
  const prefix = `${basename(path)}.tmp-`;
  for (const name of readdirSync(dirname(path))) {
    if (!name.startsWith(prefix) || existsSync(`/proc/${name.slice(prefix.length)}`)) continue;
    await rm(join(dirname(path), name), { recursive: true, force: true });
  }
}
