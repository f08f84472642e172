// A sibling of an OS image: the same kernel, initramfs and kernel arguments, another version. What a soft reboot
// takes, which the demo's three versions do not have: each of them has an argument of its own.

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { ext4FromDir } from "./disks.ts";
import { writeOciLayout } from "./oci-write.ts";
import type { OsImage } from "./os-image.ts";
import { ensureLayer, osCacheDir } from "./os-layer.ts";

const VERSION_FILE = "usr/lib/bootc-demo/version";

/** `image` with one more layer, in which it calls itself `version`. */
export async function ensureSibling(
  image: OsImage,
  version: string,
  onLine?: Progress,
): Promise<OsImage> {
  const top = await ensureLayer({
    name: `sibling${version}`,
    createdBy: `version ${version}`,
    inputs: [version],
    below: image.layers,
    change: ({ root }) => writeFile(join(root, VERSION_FILE), `${version}\n`),
    onLine,
  });
  const layers = [...image.layers, top];
  // A layer that was made again may have other bytes: the two must share a kernel.
  const key = cacheKey(1, top.key, image.manifestDigest);
  const dir = await cachedDir(join(osCacheDir, `oci-sibling${version}-${key}`), async (path) => {
    const digest = await writeOciLayout(join(path, "os.oci"), layers, {
      created: "2026-01-09T00:00:00Z",
      version,
      refName: "latest",
      labels: { "containers.bootc": "1", "org.opencontainers.image.version": version },
    });
    await writeFile(join(path, "digest"), digest);
  });
  const manifestDigest = await readFile(join(dir, "digest"), "utf8");
  return { version, ociDir: join(dir, "os.oci"), manifestDigest, layers };
}

/** As `ensureMedia`, but of a kind of its own: the cache keeps the last three of each, which the versions need. */
export async function ensureSiblingMedia({ ociDir, manifestDigest }: OsImage): Promise<string> {
  const key = cacheKey("media 1", manifestDigest);
  const dir = await cachedDir(join(cacheDir, "vm", `media-sibling-${key}`), async (path) => {
    await ext4FromDir(join(path, "media.raw"), join(ociDir, ".."), 1024, "USB");
  });
  return join(dir, "media.raw");
}
