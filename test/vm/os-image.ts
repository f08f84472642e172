// The Debian OS image of the demo and the VM tests, in three versions, as OCI image layouts.
// Invariants: versions share the base, our files and the initramfs and differ only in the last
// layer; every layer is cached by its inputs, so an unchanged part is never made twice.

import { readdirSync } from "node:fs";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { leanDpkgOptions } from "./debootstrap.ts";
import { writeOciLayout } from "./oci-write.ts";
import * as base from "./os-base.ts";
import { ensureLayer, type OsLayer, osCacheDir, runInTree } from "./os-layer.ts";

export type OsImageOptions = {
  /** Installs the project's files into an image root. */
  readonly installFiles: (root: string) => Promise<void>;
  /** Changes whenever what `installFiles` installs does. */
  readonly inputsKey: string;
  readonly onLine?: Progress | undefined;
};

/** 2 swaps a package; 3 is 1 again but for its number. */
const versions = ["1", "2", "3"] as const;
type Version = (typeof versions)[number];

export type OsImage = {
  readonly version: string;
  /** The OCI image layout: `oci:DIR`. */
  readonly ociDir: string;
  readonly manifestDigest: string;
  readonly layers: readonly OsLayer[];
};

// Raised by hand when the code that arranges the base changes what it makes.
const baseRevision = 2;

const commonKargs = ["console=ttyS0,115200", "no_timer_check", "panic=5"];
const crashKargs = ["systemd.crash_action=reboot", "rd.shell=0", "rd.emergency=reboot"];

// What an image-based system in a VM needs none of; the rest of the choice is dracut's own.
const omittedModules =
  "kernel-modules kernel-modules-extra nvdimm qemu hwdb overlay-root lunmask resume virtfs " +
  "virtiofs terminfo i18n crypt lvm mdraid dm multipath btrfs";
const addedDrivers = "erofs overlay ext4 virtio_blk virtio_pci virtio_scsi";

/** Builds the versions as far as they are not in the cache. */
export async function ensureOsImages(
  options: OsImageOptions,
): Promise<{ v1: OsImage; v2: OsImage; v3: OsImage }> {
  const shared = await sharedLayers(options);
  const [v1, v2, v3] = await Promise.all(
    versions.map((version) => ensureVersion(version, shared, options)),
  );
  return { v1: v1!, v2: v2!, v3: v3! };
}

async function sharedLayers(options: OsImageOptions): Promise<OsLayer[]> {
  const { onLine } = options;
  const debian = await ensureLayer({
    name: "base",
    createdBy: "mmdebstrap trixie",
    inputs: [
      baseRevision,
      base.basePackages,
      base.packageOnlyInV1,
      base.packageOnlyInV2,
      leanDpkgOptions,
    ],
    below: [],
    change: ({ dir }) => base.buildBase(dir, onLine),
    onLine,
  });
  const files = await ensureLayer({
    name: "files",
    createdBy: "bootc-ts install-files",
    inputs: options.inputsKey,
    below: [debian],
    change: ({ root }) => options.installFiles(root),
    onLine,
  });
  const initramfs = await ensureLayer({
    name: "initramfs",
    createdBy: "dracut",
    inputs: [omittedModules, addedDrivers],
    below: [debian, files],
    change: async ({ root }) => makeInitramfs(root, await base.kernelVersion(root), [], onLine),
    onLine,
  });
  return [debian, files, initramfs];
}

/** Makes the initramfs of one kernel of a tree, beside it; `options` are dracut's. */
export async function makeInitramfs(
  root: string,
  version: string,
  options: readonly string[],
  onLine?: Progress,
): Promise<void> {
  const image = `/usr/lib/modules/${version}/initramfs.img`;
  const choice = ["--no-hostonly", "--reproducible", "--nostrip", "--omit", omittedModules];
  const drivers = ["--add-drivers", addedDrivers];
  const words = [...choice, ...drivers, "--zstd", ...options, "--kver", version, image];
  await runInTree(root, ["dracut", "--force", ...words], onLine);
}

async function ensureVersion(
  version: Version,
  shared: readonly OsLayer[],
  options: OsImageOptions,
): Promise<OsImage> {
  const { onLine } = options;
  const debs = join(shared[0]!.dir, base.debsDir);
  const files = versionFiles(version);
  const top = await ensureLayer({
    name: `v${version}`,
    createdBy: `version ${version}`,
    inputs: [files, version, base.packageOnlyInV1, base.packageOnlyInV2],
    below: shared,
    change: ({ root }) => changeVersion(root, version, files, debs, onLine),
    onLine,
  });
  const layers = [...shared, top];
  const dir = await cachedDir(
    join(osCacheDir, `oci-v${version}-${cacheKey(1, top.key)}`),
    async (path) => {
      const digest = await writeOciLayout(join(path, "os.oci"), layers, {
        // A fixed time per version: the manifest's digest depends on contents alone.
        created: `2026-01-0${version}T00:00:00Z`,
        version,
        refName: "latest",
        labels: { "containers.bootc": "1", "org.opencontainers.image.version": version },
      });
      await writeFile(join(path, "digest"), digest);
    },
  );
  const manifestDigest = await readFile(join(dir, "digest"), "utf8");
  return { version, ociDir: join(dir, "os.oci"), manifestDigest, layers };
}

function versionFiles(version: string): Record<string, string> {
  const toml = (kargs: readonly string[]) => `kargs = ${JSON.stringify(kargs)}\n`;
  return {
    "etc/bootc-demo.conf": `# A default of the image.\ngreeting=hello from version ${version}\n`,
    "usr/lib/bootc/kargs.d/00-console.toml": toml([...commonKargs, ...crashKargs]),
    "usr/lib/bootc/kargs.d/10-demo.toml": toml([`demo.version=${version}`]),
    "usr/lib/bootc-demo/version": `${version}\n`,
  };
}

async function changeVersion(
  root: string,
  version: Version,
  files: Record<string, string>,
  debs: string,
  onLine?: Progress,
): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
  const osRelease = join(root, "usr/lib/os-release");
  const text = await readFile(osRelease, "utf8");
  await writeFile(osRelease, `${text}IMAGE_ID=bootc-demo\nIMAGE_VERSION=${version}\n`);
  if (version !== "2") return;
  const [deb] = readdirSync(debs);
  await mkdir(join(root, "var/tmp"), { recursive: true });
  await copyFile(join(debs, deb!), join(root, "var/tmp", deb!));
  const install = `dpkg --install /var/tmp/*.deb && rm /var/tmp/*.deb`;
  const purge = `dpkg --purge ${base.packageOnlyInV1} && rm -f /var/log/*.log`;
  await runInTree(root, ["sh", "-c", `${install} && ${purge}`], onLine);
}
