// Layer 1 of the OS image: a minimal bootable Debian trixie tree, rearranged as bootc expects it.
// Invariants: nothing the machine may change lies outside /etc and /var; the kernel is at
// /usr/lib/modules/KVER/vmlinuz and /boot is empty; no host names, keys, passwords or machine id.

import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Progress } from "../support/run.ts";
import { debootstrap } from "./debootstrap.ts";
import { runInTree } from "./os-layer.ts";

export const basePackages = [
  ["linux-image-cloud-amd64", "dracut", "systemd", "systemd-sysv", "udev", "dbus", "kmod"],
  ["systemd-boot", "systemd-boot-efi", "e2fsprogs", "dosfstools", "fdisk", "mount", "util-linux"],
  ["login", "passwd", "procps", "iproute2", "zstd", "bash", "ca-certificates"],
].flat();

/** Version 1 has the first, version 2 the second instead: small packages without dependencies. */
export const packageOnlyInV1 = "hello";
export const packageOnlyInV2 = "figlet";

/** Where the base keeps version 2's package until it is installed; never part of a layer. */
export const debsDir = "debs";

const dpkgOptions = [
  // Hooks for machines that install kernels one by one; nothing here ever does.
  "path-exclude=/etc/kernel/postinst.d/*",
  "path-exclude=/etc/kernel/postrm.d/*",
  "path-exclude=/etc/initramfs/*",
];

// /var belongs to the machine: what the image wants there is made at boot.
const tmpfiles = `# Directories behind the links in / (the root file system is read-only).
d /var/home 0755 root root -
d /var/roothome 0700 root root -
d /var/srv 0755 root root -
d /var/opt 0755 root root -
d /var/mnt 0755 root root -
d /var/usrlocal 0755 root root -
L /var/lib/dpkg - - - - ../../usr/lib/sysimage/dpkg
`;

// The first boot enables what presets say: nothing here has a network, LVM or a spinning disk, and
// under software emulation every unit costs.
const unwanted = [
  ["systemd-networkd.service", "systemd-networkd.socket", "systemd-networkd-wait-online.service"],
  ["e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer"],
].flat();

const links: ReadonlyArray<readonly [path: string, target: string]> = [
  ["home", "var/home"],
  ["root", "var/roothome"],
  ["srv", "var/srv"],
  ["opt", "var/opt"],
  ["mnt", "var/mnt"],
  ["media", "run/media"],
  ["ostree", "sysroot/ostree"],
];

const emptied = ["boot", "dev", "proc", "run", "sys", "tmp", "var/cache", "var/log", "var/tmp"];

const removed = [
  ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"],
  ["etc/apt", "etc/initramfs", "etc/kernel/postinst.d", "etc/resolv.conf", "var/lib/apt"],
  ["etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-"],
].flat();

/** Fills `dir` with `tree/` (the base) and `debs/` (what version 2 installs). */
export async function buildBase(dir: string, onLine?: Progress): Promise<void> {
  const tree = join(dir, "tree");
  const debs = join(dir, debsDir);
  await mkdir(debs, { recursive: true });
  await debootstrap({
    root: tree,
    variant: "essential",
    suites: ["trixie"],
    packages: [...basePackages, packageOnlyInV1],
    dpkgOptions,
    // dracut's own hook is called by its postinst: an empty one keeps it from making an initramfs.
    setupHooks: [
      `mkdir -p "$1/etc/kernel/postinst.d"`,
      `printf '#!/bin/sh\\n' > "$1/etc/kernel/postinst.d/dracut"`,
      `chmod 755 "$1/etc/kernel/postinst.d/dracut"`,
    ],
    customizeHooks: [
      // Outside the chroot, with the tree's own apt settings: the tree itself has no apt.
      `cd '${debs}' && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get download ${packageOnlyInV2}`,
    ],
    onLine,
  });
  onLine?.("OS image: arranging the tree as bootc expects it");
  await arrangeTree(tree);
}

/** The kernel version in a tree. */
export async function kernelVersion(tree: string): Promise<string> {
  const names = await readdir(join(tree, "usr/lib/modules"));
  if (names.length !== 1) throw new Error(`${tree} has ${names.length} kernels, one was expected`);
  return names[0]!;
}

async function arrangeTree(tree: string): Promise<void> {
  const at = (path: string) => join(tree, path);
  const version = await kernelVersion(tree);
  const modules = at(`usr/lib/modules/${version}`);
  await rename(at(`boot/vmlinuz-${version}`), join(modules, "vmlinuz"));
  await rename(at(`boot/config-${version}`), join(modules, "config"));
  await mkdir(at("usr/lib/sysimage"), { recursive: true });
  await rename(at("var/lib/dpkg"), at("usr/lib/sysimage/dpkg"));
  await symlink("../../usr/lib/sysimage/dpkg", at("var/lib/dpkg"));
  for (const path of emptied) await emptyDir(at(path));
  for (const [path, target] of links) {
    await rm(at(path), { recursive: true, force: true });
    await symlink(target, at(path));
  }
  for (const path of ["sysroot", "efi", "var/home", "var/roothome", "var/mnt"]) {
    await mkdir(at(path), { recursive: true, mode: path.endsWith("roothome") ? 0o700 : 0o755 });
  }
  await rm(at("usr/local"), { recursive: true, force: true });
  await symlink("../var/usrlocal", at("usr/local"));
  await writeFile(at("usr/lib/tmpfiles.d/bootc-demo-base.conf"), tmpfiles);
  await disableUnits(tree);
  await arrangeEtc(tree);
  for (const path of removed) await rm(at(path), { recursive: true, force: true });
}

async function disableUnits(tree: string): Promise<void> {
  const lines = unwanted.map((unit) => `disable ${unit}\n`);
  const preset = join(tree, "usr/lib/systemd/system-preset/10-bootc-demo.preset");
  await writeFile(preset, lines.join(""));
  await runInTree(tree, ["systemctl", "disable", ...unwanted]);
}

async function arrangeEtc(tree: string): Promise<void> {
  const etc = (path: string) => join(tree, "etc", path);
  // Not empty: only this text makes the next boot a first boot, which writes a real id.
  await writeFile(etc("machine-id"), "uninitialized\n");
  await writeFile(etc("hostname"), "bootc-demo\n");
  await writeFile(etc("hosts"), "127.0.0.1 localhost bootc-demo\n::1 localhost\n");
  await writeFile(etc("fstab"), "# No line for /: the initramfs mounts it.\n");
  // It would ask for a locale and a password at the console and hold up the first boot.
  await symlink("/dev/null", etc("systemd/system/systemd-firstboot.service"));
  // Nobody logs in over a network here; at the console root needs no password.
  const shadow = await readFile(etc("shadow"), "utf8");
  await writeFile(etc("shadow"), shadow.replace(/^root:[^:]*:/m, "root::"));
}

async function emptyDir(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const name of await readdir(path)) {
    await rm(join(path, name), { recursive: true, force: true });
  }
}
