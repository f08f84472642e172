// The tools root: a Debian trixie tree with the programs that the build machine lacks or has too
// old (QEMU 10, OVMF, mkcomposefs, ...), entered by chroot in a mount namespace of its own.
// Invariants: built once per recipe; a program sees `.cache/`, /tmp, /dev and /proc at their usual
// paths; no mount is ever visible outside the program's own namespace, so nothing can leak.

import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { type Progress, type RunOptions, run } from "../support/run.ts";
import { debootstrap } from "./debootstrap.ts";

const packages = [
  ["qemu-system-x86", "qemu-utils", "ovmf", "seabios"],
  ["dosfstools", "mtools", "e2fsprogs", "fdisk", "gdisk", "erofs-utils"],
  ["fsverity", "zstd", "cpio", "kmod", "attr", "libcap2-bin"],
  // Sealing, signing, Secure Boot and TPMs.
  ["swtpm", "swtpm-tools", "python3-virt-firmware", "efitools", "sbsigntool", "openssl"],
  [
    "systemd-ukify",
    "systemd-boot-efi",
    "systemd-boot-tools",
    "softhsm2",
    "pkcs11-provider",
    "opensc",
    "binutils",
  ],
].flat();

// Only in forky so far; the pin keeps everything else at trixie.
const newerPackages = ["composefs", "libcomposefs1"];

const pin = "Package: *\nPin: release n=forky\nPin-Priority: 100\n";

/** Builds the tools root when it is not there yet and returns its path. */
export async function ensureToolsRoot(onLine?: Progress): Promise<string> {
  const key = cacheKey("tools-root 1", packages, newerPackages, pin);
  const path = join(cacheDir, `tools-root-${key}`);
  return cachedDir(path, async (dir) => {
    onLine?.("tools root: installing Debian trixie with QEMU and file system tools");
    const preferences = `${dir}.preferences`;
    await writeFile(preferences, pin);
    try {
      await debootstrap({
        root: dir,
        variant: "apt",
        suites: ["trixie", "forky"],
        packages: [...packages, ...newerPackages],
        setupHooks: [
          `mkdir -p "$1/etc/apt/preferences.d"`,
          `cp '${preferences}' "$1/etc/apt/preferences.d/forky"`,
        ],
        onLine,
      });
    } finally {
      await rm(preferences, { force: true });
    }
    await mkdir(join(dir, cacheDir), { recursive: true });
  });
}

/** The command line that runs `argv` inside `root`; exec all the way, so the pid stays the same. */
export function chrootCommand(root: string, argv: readonly string[]): string[] {
  const script = [
    "set -e",
    'root=$1; cache=$2; shift 2; mkdir -p "$root$cache"',
    // A mount point of its own: some programs (podman) change how their root is mounted.
    'mount --bind "$root" "$root"',
    'mount --rbind /dev "$root/dev"; mount -t proc proc "$root/proc"',
    'mount --rbind /sys "$root/sys"; mount --bind /tmp "$root/tmp"',
    'mount --bind "$cache" "$root$cache"',
    'exec chroot "$root" "$@"',
  ].join("\n");
  const namespace = ["unshare", "--mount", "--propagation", "private", "--"];
  return [...namespace, "sh", "-c", script, "sh", root, cacheDir, ...argv];
}

/** Runs one of the tools; paths under `.cache/` and /tmp mean the same inside as outside. */
export async function runTool(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  return run(chrootCommand(await ensureToolsRoot(options.onLine), argv), options);
}
