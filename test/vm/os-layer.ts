// Makes one layer of the OS image: the layers below under overlayfs, changes on top, packed.
// Invariants: a layer is cached whole (its files, its blob, its digests) by the key of its recipe
// and everything below it; the overlay mount is gone afterwards, also when the change failed.

import { spawnSync } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, run } from "../support/run.ts";
import { type LayerFile, writeLayer } from "./layer-tar.ts";
import type { PackedLayer } from "./oci-write.ts";

export type OsLayer = PackedLayer & { readonly dir: string; readonly key: string };

export type LayerRecipe = {
  readonly name: string;
  readonly createdBy: string;
  /** Whatever decides what `change` does. */
  readonly inputs: unknown;
  readonly below: readonly OsLayer[];
  /** Fills a directory of its own when nothing is below, else changes the merged tree. */
  readonly change: (place: { dir: string; root: string }) => Promise<void>;
  readonly onLine?: Progress | undefined;
};

export const osCacheDir = join(cacheDir, "os");

/** The layer, made when it is not in the cache yet. */
export async function ensureLayer(recipe: LayerRecipe): Promise<OsLayer> {
  const key = cacheKey("layer 2", recipe.inputs, recipe.below.at(-1)?.key);
  const path = join(osCacheDir, `${recipe.name}-${key}`);
  const dir = await cachedDir(path, async (temporary) => {
    recipe.onLine?.(`OS image: making layer "${recipe.name}" (${recipe.createdBy})`);
    await changeTree(recipe, temporary);
    const layer = await writeLayer(join(temporary, "tree"), join(temporary, "layer.tar.zst"));
    await writeFile(join(temporary, "layer.json"), JSON.stringify(layer));
    const size = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
    recipe.onLine?.(`OS image: layer "${recipe.name}": ${size(layer.size)} packed`);
  });
  const layer = JSON.parse(await readFile(join(dir, "layer.json"), "utf8")) as LayerFile;
  return { ...layer, dir, key, file: join(dir, "layer.tar.zst"), createdBy: recipe.createdBy };
}

async function changeTree(recipe: LayerRecipe, dir: string): Promise<void> {
  const tree = join(dir, "tree");
  if (recipe.below.length === 0) return recipe.change({ dir, root: tree });
  const work = join(dir, "work");
  const root = join(dir, "root");
  for (const path of [tree, work, root]) await mkdir(path, { recursive: true });
  const options = `lowerdir=${lowerDirs(recipe.below)},upperdir=${tree},workdir=${work}`;
  await run(["mount", "-t", "overlay", "-o", `${options},index=off,metacopy=off`, "overlay", root]);
  const unmount = () => spawnSync("umount", ["-l", root]);
  process.once("exit", unmount);
  try {
    await recipe.change({ dir, root });
  } finally {
    process.off("exit", unmount);
    await run(["umount", root]).catch(unmount);
  }
  for (const path of [work, root]) await rm(path, { recursive: true, force: true });
}

function lowerDirs(layers: readonly OsLayer[]): string {
  return layers
    .map((layer) => join(layer.dir, "tree"))
    .reverse()
    .join(":");
}

/** Runs a program inside a tree, with the kernel's file systems and an empty /run and /tmp. */
export async function runInTree(
  root: string,
  argv: readonly string[],
  onLine?: Progress,
): Promise<string> {
  const script = [
    "set -e; root=$1; shift",
    'mount --rbind /proc "$root/proc"; mount --rbind /sys "$root/sys"',
    'mount --rbind /dev "$root/dev"; mount -t tmpfs none "$root/run"',
    'mount -t tmpfs none "$root/tmp"; exec chroot "$root" "$@"',
  ].join("\n");
  const namespace = ["unshare", "--mount", "--propagation", "private", "--"];
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", TMPDIR: "/tmp", HOME: "/root" };
  return run([...namespace, "sh", "-c", script, "sh", root, ...argv], { onLine, env });
}

/** Runs a program of the host that finds the merged layers, read-only, at /mnt. */
export async function runOnMerged(
  layers: readonly OsLayer[],
  argv: readonly string[],
  onLine?: Progress,
): Promise<string> {
  const script = 'mount -t overlay -o "ro,lowerdir=$1" overlay /mnt && shift && exec "$@"';
  const namespace = ["unshare", "--mount", "--propagation", "private", "--"];
  return run([...namespace, "sh", "-c", script, "sh", lowerDirs(layers), ...argv], { onLine });
}
