// The images of the pull benchmark, in a registry's storage that is kept in .cache: the Debian of the VM tests
// and a made-up one of 1.5 GB, each in two versions and with gzip and zstd.

import { existsSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { cacheDir, cacheKey } from "../../test/support/cache.ts";
import { runImageTool } from "../../test/support/image-tools.ts";
import { startRegistry } from "../../test/support/registry-server.ts";
import { type Compression, writeLargeLayouts } from "./pull-layout.ts";

export interface BenchImage {
  readonly label: string;
  /** In the registry; its tags are 1 and 2. */
  readonly repository: string;
  readonly compression: Compression;
}

export interface BenchImages {
  /** For `startRegistry`. */
  readonly registryDirectory: string;
  readonly images: readonly BenchImage[];
}

const COMPRESSIONS = ["gzip", "zstd"] as const;

/** Makes them the first time, which takes some minutes. Null without the Debian images (npm run demo). */
export async function ensurePullImages(note: (line: string) => void): Promise<BenchImages | null> {
  // Made once: a newer Debian image would only make figures harder to compare.
  const path = join(cacheDir, `bench-pull-${cacheKey("pull images 1")}`);
  if (!existsSync(path)) {
    const debian = [1, 2].map(findDebian);
    if (debian.includes(null)) return null;
    const partial = `${path}.partial`;
    rmSync(partial, { recursive: true, force: true });
    await fill(partial, debian as string[], note);
    renameSync(partial, path);
  }
  const images = ["debian", "large"].flatMap((name) =>
    COMPRESSIONS.map((compression) => ({
      label: `${name === "debian" ? "Debian, 337 MB" : "made up, 1.5 GB"}, ${compression}`,
      repository: `${name}-${compression}`,
      compression,
    })),
  );
  return { registryDirectory: path, images };
}

async function fill(
  directory: string,
  debian: readonly string[],
  note: (line: string) => void,
): Promise<void> {
  await using registry = await startRegistry({ directory, name: "bench" });
  const push = async (layout: string, repository: string, tag: number, options: string[]) => {
    const target = `docker://127.0.0.1:${registry.port}/${repository}:${tag}`;
    note(`pushing ${repository}:${tag}`);
    const copy = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", ...options];
    await runImageTool([...copy, `oci:${layout}`, target]);
  };
  for (const compression of COMPRESSIONS) {
    const recompress = [`--dest-compress-format=${compression}`, "--dest-force-compress-format"];
    for (const [index, layout] of debian.entries()) {
      await push(layout, `debian-${compression}`, index + 1, recompress);
    }
    const layouts = join(directory, `large-${compression}`);
    note(`making the image of 1.5 GB, ${compression}`);
    await writeLargeLayouts(layouts, compression);
    for (const tag of [1, 2]) {
      await push(join(layouts, String(tag)), `large-${compression}`, tag, ["--preserve-digests"]);
    }
    rmSync(layouts, { recursive: true });
  }
}

/** The newest one; two versions made at a time share all layers but the last. */
function findDebian(version: number): string | null {
  const images = join(cacheDir, "os");
  const names = existsSync(images) ? readdirSync(images) : [];
  const paths = names
    .filter((name) => new RegExp(`^oci-v${version}-[0-9a-f]{16}$`).test(name))
    .map((name) => join(images, name, "os.oci"))
    .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs);
  return paths.at(-1) ?? null;
}
