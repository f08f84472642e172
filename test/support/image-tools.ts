// The image tools root: a Debian forky tree with the real programs around container images (skopeo, podman,
// buildah, umoci, cosign 3, docker-registry, nginx, dockerd, GnuPG), entered by chroot as the tools root is.
// A tree of its own, because these want forky's C library. Built once per recipe.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { debootstrap } from "../vm/debootstrap.ts";
import { chrootCommand } from "../vm/tools-root.ts";
import { cacheDir, cachedDir, cacheKey } from "./cache.ts";
import { type Progress, type RunOptions, run } from "./run.ts";

const packages = [
  ["skopeo", "podman", "buildah", "umoci", "containers-storage", "fuse-overlayfs", "ostree"],
  ["docker-registry", "nginx-light", "docker.io", "apache2-utils", "openssl", "ca-certificates"],
  ["cosign", "rekor", "gnupg", "gpgv", "zstd", "pigz", "attr"],
].flat();

/** Builds the image tools root when it is not there yet and returns its path. */
export async function ensureImageTools(onLine?: Progress): Promise<string> {
  const path = join(cacheDir, `image-tools-${cacheKey("image-tools 1", packages)}`);
  return cachedDir(path, async (dir) => {
    onLine?.("image tools: installing Debian forky with skopeo, podman, cosign and registries");
    await debootstrap({ root: dir, variant: "essential", suites: ["forky"], packages, onLine });
    await mkdir(join(dir, cacheDir), { recursive: true });
  });
}

/** Runs a program of the image tools root; paths under `.cache/` and /tmp mean the same as outside. */
export async function runImageTool(
  argv: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  return run(chrootCommand(await ensureImageTools(options.onLine), argv), options);
}
