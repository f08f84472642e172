// The demo's OS image with a unified kernel that has no command line of its own: the boot entry's arguments count,
// and a statement proves the image. Its initramfs is without prepare-root's program, which a shared addon brings,
// and an addon for this kernel adds an argument.
// Invariants: cached by all that goes in; version N of the OS has version N in its statement.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXECUTABLE } from "../../scripts/build.ts";
import { cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { makeAddon } from "./efi-programs.ts";
import { writeOciLayout } from "./oci-write.ts";
import { kernelVersion } from "./os-base.ts";
import { makeInitramfs, type OsImage } from "./os-image.ts";
import { ensureLayer, type OsLayer, osCacheDir } from "./os-layer.ts";
import { ensureSecureBootLayer, type SealedImage } from "./sealed-image.ts";
import { ensureSecureBootKeys } from "./secure-boot.ts";
import { ensureStatementKey, keysDir } from "./signed-image.ts";
import { runTool } from "./tools-root.ts";

const dracutConf = "usr/lib/dracut/dracut.conf.d/70-program.conf";

/** The argument that the image's addon adds in this version. */
export function addedArgument(version: string): string {
  return `image.addon=${version}`;
}

/** An initramfs without the program, and with the public key. */
async function ensureInitramfsLayer(
  below: readonly OsLayer[],
  publicKey: string,
  onLine?: Progress,
): Promise<OsLayer> {
  return ensureLayer({
    name: "without-program",
    createdBy: "initramfs without program",
    inputs: [await readFile(publicKey, "utf8")],
    below,
    change: async ({ root }) => {
      await mkdir(join(root, keysDir), { recursive: true });
      await copyFile(publicKey, join(root, keysDir, "rig.pub"));
      await writeFile(join(root, dracutConf), 'bootc_program="addon"\n');
      await makeInitramfs(root, await kernelVersion(join(below[0]!.dir, "tree")), [], onLine);
    },
    onLine,
  });
}

/** `sharedAddon` is the one of an earlier image, signed; null: one is made. */
export async function ensureSignedKernelImage(
  image: OsImage,
  sharedAddon: { readonly name: string; readonly bytes: Uint8Array } | null,
  onLine?: Progress,
): Promise<SealedImage> {
  const keys = await ensureSecureBootKeys();
  const { key, publicKey } = await ensureStatementKey();
  const shared = image.layers.slice(0, -1);
  const secureBoot = await ensureSecureBootLayer(shared, keys, onLine);
  const initramfs = await ensureInitramfsLayer([...shared, secureBoot], publicKey, onLine);
  const layers = [...shared, secureBoot, initramfs, image.layers.at(-1)!];
  const { version } = image;
  const digests = [initramfs.key, image.manifestDigest, sharedAddon?.name ?? "its own"];
  const name = `signed-kernel-v${version}-${cacheKey("signed kernel 1", digests)}`;
  const dir = await cachedDir(join(osCacheDir, name), async (path) => {
    const file = (each: string) => join(path, each);
    await writeOciLayout(file("plain.oci"), layers, {
      created: `2026-01-0${version}T00:00:00Z`,
      version,
      refName: "latest",
      labels: { "containers.bootc": "1", "org.opencontainers.image.version": version },
    });
    // The tools root sees the cache only.
    await copyFile(EXECUTABLE, file("bootc"));
    await writeFile(file("image.addon.efi"), await makeAddon(addedArgument(version), keys.db));
    const words = ["--mode", "signed", "--key", key, "--version", version];
    words.push("--secureboot-key", keys.db.key, "--secureboot-certificate", keys.db.certificate);
    words.push("--addon", file("image.addon.efi"));
    if (sharedAddon === null) words.push("--shared-runtime");
    else {
      await writeFile(file(sharedAddon.name), sharedAddon.bytes);
      words.push("--addon", file(sharedAddon.name));
    }
    const places = [`oci:${file("plain.oci")}`, `oci:${file("os.oci")}`];
    await runTool([file("bootc"), "container", "seal", ...words, ...places], { onLine });
    for (const each of ["plain.oci", "bootc"]) await rm(file(each), { recursive: true });
    const { manifests } = JSON.parse(await readFile(file("os.oci/index.json"), "utf8"));
    await writeFile(file("digest"), manifests[0].digest);
  });
  const manifestDigest = await readFile(join(dir, "digest"), "utf8");
  return { version, ociDir: join(dir, "os.oci"), manifestDigest };
}
