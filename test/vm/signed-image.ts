// The demo's OS image in signed mode: the rig's public key is in its trust directory and in its initramfs, and
// every version carries a statement made by `bootc container sign`.
// Invariants: cached by the image and the key; version N of the OS has version N in its statement.

import { generateKeyPairSync } from "node:crypto";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXECUTABLE } from "../../scripts/build.ts";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, run } from "../support/run.ts";
import { writeOciLayout } from "./oci-write.ts";
import { kernelVersion } from "./os-base.ts";
import { makeInitramfs, type OsImage } from "./os-image.ts";
import { ensureLayer, osCacheDir } from "./os-layer.ts";

export type SignedImage = Pick<OsImage, "version" | "ociDir" | "manifestDigest">;

export const keysDir = "usr/lib/bootc/trust/keys.d";

/** Paths of an Ed25519 pair in PEM. */
export async function ensureStatementKey(): Promise<{ key: string; publicKey: string }> {
  const dir = await cachedDir(
    join(cacheDir, "vm", `statement-key-${cacheKey("statement key 1")}`),
    async (path) => {
      const { privateKey, publicKey } = generateKeyPairSync("ed25519");
      const pem = { format: "pem" } as const;
      const secret = privateKey.export({ ...pem, type: "pkcs8" });
      await writeFile(join(path, "key.pem"), secret, { mode: 0o600 });
      await writeFile(join(path, "rig.pub"), publicKey.export({ ...pem, type: "spki" }));
    },
  );
  return { key: join(dir, "key.pem"), publicKey: join(dir, "rig.pub") };
}

/** `image` must be one of the product images: its last layer is what makes its version. */
export async function ensureSignedImage(image: OsImage, onLine?: Progress): Promise<SignedImage> {
  const { key, publicKey } = await ensureStatementKey();
  const shared = image.layers.slice(0, -1);
  // Below the layer of the version, so that all versions share the one initramfs.
  const trust = await ensureLayer({
    name: "trust",
    createdBy: "public key",
    inputs: [await readFile(publicKey, "utf8")],
    below: shared,
    change: async ({ root }) => {
      await mkdir(join(root, keysDir), { recursive: true });
      await copyFile(publicKey, join(root, keysDir, "rig.pub"));
      await makeInitramfs(root, await kernelVersion(join(shared[0]!.dir, "tree")), [], onLine);
    },
    onLine,
  });
  const layers = [...shared, trust, image.layers.at(-1)!];
  const { version } = image;
  const name = `signed-v${version}-${cacheKey("signed 1", trust.key, image.manifestDigest)}`;
  const dir = await cachedDir(join(osCacheDir, name), async (path) => {
    const layout = join(path, "os.oci");
    await writeOciLayout(layout, layers, {
      created: `2026-01-0${version}T00:00:00Z`,
      version,
      refName: "latest",
      labels: { "containers.bootc": "1", "org.opencontainers.image.version": version },
    });
    const words = ["--key", key, "--version", version, `oci:${layout}:latest`];
    await run([EXECUTABLE, "container", "sign", ...words], { onLine });
    const { manifests } = JSON.parse(await readFile(join(layout, "index.json"), "utf8"));
    await writeFile(join(path, "digest"), manifests[0].digest);
  });
  const manifestDigest = await readFile(join(dir, "digest"), "utf8");
  return { version, ociDir: join(dir, "os.oci"), manifestDigest };
}
