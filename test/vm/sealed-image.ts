// The demo's OS image sealed for Secure Boot: on top of the product image a signed systemd-boot and the rig's
// keys to enrol, then `bootc container seal` with the real ukify and sbsign of the tools root.
// Invariants: cached by the image and the keys, so an unchanged one is never sealed twice.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXECUTABLE } from "../../scripts/build.ts";
import { cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { resign } from "./efi-programs.ts";
import { writeOciLayout } from "./oci-write.ts";
import type { OsImage } from "./os-image.ts";
import { ensureLayer, type OsLayer, osCacheDir } from "./os-layer.ts";
import { ensureSecureBootKeys, type SecureBootKeys } from "./secure-boot.ts";
import { runTool } from "./tools-root.ts";

export type SealedImage = Pick<OsImage, "version" | "ociDir" | "manifestDigest">;

const loader = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const authDir = "usr/lib/bootc/install/secureboot-keys/auto";

/** The layer with the signed loader and the keys. */
export async function ensureSecureBootLayer(
  below: readonly OsLayer[],
  keys: SecureBootKeys,
  onLine?: Progress,
): Promise<OsLayer> {
  return ensureLayer({
    name: "secure-boot",
    createdBy: "Secure Boot keys",
    inputs: [keys.identity],
    below,
    change: async ({ root }) => {
      const signed = await resign(await readFile(join(root, loader)), keys.db);
      await writeFile(join(root, `${loader}.signed`), signed);
      await mkdir(join(root, authDir), { recursive: true });
      for (const name of ["PK", "KEK", "db"]) {
        const file = `${name}.auth`;
        await copyFile(join(keys.authDir, file), join(root, authDir, file));
      }
    },
    onLine,
  });
}

/** Sealed with the rig's key. */
export async function ensureSealedImage(image: OsImage, onLine?: Progress): Promise<SealedImage> {
  const keys = await ensureSecureBootKeys();
  const layer = await ensureSecureBootLayer(image.layers, keys, onLine);
  const words = [
    ...["--secureboot-key", keys.db.key],
    ...["--secureboot-certificate", keys.db.certificate],
  ];
  const { version } = image;
  const name = `sealed-v${version}-${cacheKey("sealed 1", layer.key, words)}`;
  const dir = await cachedDir(join(osCacheDir, name), async (path) => {
    onLine?.(`OS image: sealing version ${version}`);
    const plain = join(path, "plain.oci");
    await writeOciLayout(plain, [...image.layers, layer], {
      created: `2026-01-0${version}T00:00:00Z`,
      version,
      refName: "latest",
      labels: { "containers.bootc": "1", "org.opencontainers.image.version": version },
    });
    // The tools root sees the cache only.
    const program = join(path, "bootc");
    await copyFile(EXECUTABLE, program);
    const sealed = join(path, "os.oci");
    await runTool([program, "container", "seal", ...words, `oci:${plain}`, `oci:${sealed}`], {
      onLine,
    });
    for (const each of [plain, program]) await rm(each, { recursive: true });
    const { manifests } = JSON.parse(await readFile(join(sealed, "index.json"), "utf8"));
    await writeFile(join(path, "digest"), manifests[0].digest);
  });
  const manifestDigest = await readFile(join(dir, "digest"), "utf8");
  return { version, ociDir: join(dir, "os.oci"), manifestDigest };
}
