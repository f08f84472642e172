// How a boot loader wants its files: where kernels lie below its directory, how entries name them, and
// who counts failed starts (bootc.md 4.4; docs/decisions/0016).
//
// systemd-boot and grub-cc have everything on the ESP. GRUB reads /boot of the root disk, where kernels
// lie directly in it; only unified kernels are on the ESP.

import { join } from "node:path";

export interface BootLayout {
  readonly loader: "systemd" | "grub-cc" | "grub";
  /** Below the boot directory, where kernel directories are: "EFI/Linux", or "" for the directory itself. */
  readonly kernelParent: string;
  /** What an entry's paths begin with: "/EFI/Linux"; for GRUB "/boot", or "" when /boot is a partition. */
  readonly linuxPrefix: string;
  /** GRUB's menu of unified kernels, e.g. "grub2/user.cfg"; null where the menu is `loader/entries`. */
  readonly userConfig: string | null;
  /** Absolute directory with `EFI/Linux/bootc` (the ESP), or null when the machine has none. */
  readonly ukiPath: string | null;
  /** Who counts starts: systemd-boot in the entries' names, GRUB's script in grubenv, nobody. */
  readonly counting: "entry-name" | "grubenv" | "none";
  /** Why nobody counts on a machine that is set up for it: one sentence. */
  readonly countingProblem: string | null;
}

/** The boot loader's directory, for as long as it is held. */
export interface BootDirectory extends Disposable {
  readonly path: string;
  readonly layout: BootLayout;
}

/** Everything on the ESP, which is at `path`. */
export function makeEspLayout(loader: "systemd" | "grub-cc", path: string): BootLayout {
  return {
    loader,
    kernelParent: "EFI/Linux",
    linuxPrefix: "/EFI/Linux",
    userConfig: null,
    ukiPath: path,
    counting: loader === "systemd" ? "entry-name" : "none",
    countingProblem: null,
  };
}

/** A boot directory that somebody else holds. */
export function borrowBootDirectory(path: string, layout: BootLayout): BootDirectory {
  return { path, layout, [Symbol.dispose]: () => {} };
}

/** The absolute directory that holds `bootc_composefs-<id>/`. */
export function kernelRoot({ path, layout }: Pick<BootDirectory, "path" | "layout">): string {
  return join(path, layout.kernelParent);
}
