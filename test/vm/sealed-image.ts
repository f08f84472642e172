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

/** What sealing adds to an image: arguments of `bootc container seal`, `image` last but one. */
export type SealRecipe = {
  readonly name: string;
  readonly layers: readonly OsLayer[];
  readonly words: readonly string[];
  /** Run with `os.oci` made, in the tools root; `$1` is its directory, `$2` the executable. */
  readonly afterwards?: string;
};

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

/** Seals the layers' image. */
export async function sealImage(
  image: Pick<OsImage, "version">,
  recipe: SealRecipe,
  onLine?: Progress,
): Promise<SealedImage> {
  const { name, layers, words, afterwards } = recipe;
  const key = cacheKey("sealed 1", layers.at(-1)!.key, words, afterwards);
  const dir = await cachedDir(
    join(osCacheDir, `${name}-v${image.version}-${key}`),
    async (path) => {
      onLine?.(`OS image: sealing version ${image.version} (${name})`);
      const plain = join(path, "plain.oci");
      await writeOciLayout(plain, layers, {
        created: `2026-01-0${image.version}T00:00:00Z`,
        version: image.version,
        refName: "latest",
        labels: { "containers.bootc": "1", "org.opencontainers.image.version": image.version },
      });
      // The tools root sees the cache only.
      const program = join(path, "bootc");
      await copyFile(EXECUTABLE, program);
      const target = `oci:${join(path, "os.oci")}`;
      await runTool([program, "container", "seal", ...words, `oci:${plain}`, target], { onLine });
      if (afterwards !== undefined) {
        await runTool(["sh", "-ec", afterwards, "sh", path, program], { onLine });
      }
      for (const each of [plain, program]) await rm(each, { recursive: true });
      await writeFile(join(path, "digest"), await manifestOf(join(path, "os.oci")));
    },
  );
  const { version } = image;
  return {
    version,
    ociDir: join(dir, "os.oci"),
    manifestDigest: await readFile(join(dir, "digest"), "utf8"),
  };
}

async function manifestOf(layout: string): Promise<string> {
  const { manifests } = JSON.parse(await readFile(join(layout, "index.json"), "utf8"));
  return manifests[0].digest;
}

/** Sealed with the rig's key. */
export async function ensureSealedImage(image: OsImage, onLine?: Progress): Promise<SealedImage> {
  const keys = await ensureSecureBootKeys();
  const layer = await ensureSecureBootLayer(image.layers, keys, onLine);
  const words = [
    ...["--secureboot-key", keys.db.key],
    ...["--secureboot-certificate", keys.db.certificate],
  ];
  return sealImage(image, { name: "sealed", layers: [...image.layers, layer], words }, onLine);
}
