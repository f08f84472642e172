// The Debian forky tree that the ostree tests start: with the real ostree 2026.4 in it, and initramfses
// that dracut makes from it. Invariants: the tree itself is in no way changed for this project; what
// ostree's dracut module makes of it is the peer's initramfs.

import { existsSync } from "node:fs";
import { cp, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildExecutable, EXECUTABLE } from "../../scripts/build.ts";
import { installFiles } from "../../scripts/install-files.ts";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, run } from "../support/run.ts";
import { debootstrap } from "./debootstrap.ts";
import { kernelVersion } from "./os-base.ts";
import { runInTree } from "./os-layer.ts";

const PACKAGES = [
  ["linux-image-cloud-amd64", "dracut", "systemd", "systemd-sysv", "udev", "kmod", "mount"],
  ["ostree", "ostree-boot", "fsverity", "e2fsprogs", "util-linux", "zstd", "cpio", "bash"],
].flat();

/** Under software emulation every unit costs, and none of these has anything to do here. */
const MASKED = [
  ["getty.target", "systemd-logind.service", "systemd-firstboot.service", "ldconfig.service"],
  ["systemd-update-done.service", "systemd-journal-catalog-update.service", "fstrim.timer"],
  ["systemd-hwdb-update.service", "systemd-sysusers.service", "systemd-tmpfiles-clean.timer"],
  ["e2scrub_reap.service", "e2scrub_all.timer", "dpkg-db-backup.timer"],
  ["systemd-networkd.service", "systemd-networkd.socket", "systemd-userdbd.socket"],
].flat();

/** dracut's own choice but for what no virtual machine needs. */
const OMITTED =
  "kernel-modules kernel-modules-extra nvdimm qemu hwdb overlay-root lunmask resume virtfs " +
  "virtiofs terminfo i18n crypt lvm mdraid dm multipath btrfs";

const DRACUT_OPTIONS = [
  ["--no-hostonly", "--reproducible", "--nostrip", "--compress", "zstd -1 -q -T0"],
  ["--omit", OMITTED, "--add", "ostree", "--force-drivers", "virtio_console autofs4"],
  ["--add-drivers", "virtio_blk virtio_pci ext4 erofs overlay loop"],
  // What the tests do in the initramfs before prepare-root starts.
  [
    "--install",
    "bash mount umount cp mv rm mkdir cat ls find sort stat chattr dd sync date unshare",
  ],
  ["--install", "readlink tr wc head od grep sed filefrag touch ln chmod chroot cut fsverity"],
].flat();

/** The tree, made when it is not in the cache yet. */
export async function ensureOstreeTree(onLine?: Progress): Promise<string> {
  const key = cacheKey("ostree tree 1", PACKAGES, MASKED);
  const dir = await cachedDir(join(cacheDir, "vm", `ostree-tree-${key}`), async (path) => {
    onLine?.("ostree tree: installing Debian forky");
    const tree = join(path, "tree");
    await debootstrap({
      root: tree,
      variant: "essential",
      suites: ["forky"],
      packages: PACKAGES,
      dpkgOptions: ["path-exclude=/etc/kernel/postinst.d/*", "path-exclude=/etc/kernel/postrm.d/*"],
      setupHooks: [
        `mkdir -p "$1/etc/kernel/postinst.d"`,
        `printf '#!/bin/sh\\n' > "$1/etc/kernel/postinst.d/dracut"`,
        `chmod 755 "$1/etc/kernel/postinst.d/dracut"`,
      ],
      onLine,
    });
    await arrangeTree(tree);
  });
  return join(dir, "tree");
}

async function arrangeTree(tree: string): Promise<void> {
  const version = await kernelVersion(tree);
  const boot = join(tree, `boot/vmlinuz-${version}`);
  const modules = join(tree, "usr/lib/modules", version);
  if (existsSync(boot)) await rename(boot, join(modules, "vmlinuz"));
  const etc = (path: string) => join(tree, "etc", path);
  for (const unit of MASKED) {
    await rm(etc(`systemd/system/${unit}`), { force: true });
    await symlink("/dev/null", etc(`systemd/system/${unit}`));
  }
  await writeFile(etc("machine-id"), "0123456789abcdef0123456789abcdef\n");
  await writeFile(etc("hostname"), "ostree\n");
  await writeFile(etc("fstab"), "# No line for /: the initramfs mounts it.\n");
  await mkdir(join(tree, "usr/lib/ostree"), { recursive: true });
  // Deployed so, the image has the fs-verity digests of its files, whatever disk it is made on.
  await writeFile(join(tree, "usr/lib/ostree/prepare-root.conf"), "[composefs]\nenabled=verity\n");
}

/** The initramfs that only has ostree's own dracut module. */
export async function ensurePeerInitramfs(tree: string, onLine?: Progress): Promise<string> {
  const key = cacheKey("peer initramfs 1", tree, DRACUT_OPTIONS);
  const dir = await cachedDir(join(cacheDir, "vm", `ostree-initramfs-peer-${key}`), (path) =>
    makeInitramfs(tree, path, [], onLine),
  );
  return join(dir, "initramfs.img");
}

/**
 * The initramfs with this project's dracut module beside ostree's. The real prepare-root is in it as
 * /usr/lib/rig/ostree-prepare-root, too.
 */
export async function ensureOurInitramfs(tree: string, onLine?: Progress): Promise<string> {
  await buildExecutable();
  const scratch = join(cacheDir, "vm", `ostree-files-${process.pid}`);
  try {
    await rm(scratch, { recursive: true, force: true });
    await mkdir(scratch, { recursive: true });
    installFiles(scratch, EXECUTABLE);
    const digest = await run([
      ...["sh", "-c", 'cd "$1" && find . -type f | sort | xargs sha256sum | sha256sum'],
      ...["sh", scratch],
    ]);
    const key = cacheKey("our initramfs 1", tree, DRACUT_OPTIONS, digest);
    const options = [
      ...["--add", "bootc"],
      ...["--include", "/usr/lib/ostree/ostree-prepare-root", "/usr/lib/rig/ostree-prepare-root"],
    ];
    const dir = await cachedDir(join(cacheDir, "vm", `ostree-initramfs-ours-${key}`), (path) =>
      makeInitramfs(tree, path, options, onLine, scratch),
    );
    return join(dir, "initramfs.img");
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Runs dracut in a throwaway copy of the tree, with `files` copied into it before. */
async function makeInitramfs(
  tree: string,
  path: string,
  options: readonly string[],
  onLine?: Progress,
  files?: string,
): Promise<void> {
  onLine?.("ostree: making an initramfs with dracut");
  const root = join(path, "root");
  // Links: only what is replaced is new, and dracut changes nothing but its output.
  await run(["cp", "-al", tree, root]);
  if (files !== undefined) await cp(files, root, { recursive: true, verbatimSymlinks: true });
  const version = await kernelVersion(tree);
  const image = "/var/initramfs.img";
  const words = [...DRACUT_OPTIONS, ...options, "--kver", version, image];
  await runInTree(root, ["dracut", "--force", ...words], onLine);
  await rename(join(root, image), join(path, "initramfs.img"));
  await rm(root, { recursive: true, force: true });
}
