// Putting systemd-boot on the boot partition: `bootctl install`, with the EFI programs of the image that
// is being installed (bootc.md 9.7).
//
// Of a program that the image has as `….efi` and `….efi.signed`, bootctl takes the signed one. It would also
// write over a shim in the fallback directory; that one is hidden from it (shim.ts).
//
// bootctl wants a root directory that has the programs, os-release and the boot partition in it; a small
// one is made for it, so nothing of the image needs to run or to be mounted.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../../shared/error.ts";
import { MNT, MS } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { requireProgram, runProgram } from "./program.ts";
import { FALLBACK_DIRECTORY, findShims, planSecondStage } from "./shim.ts";

/** In an image root: where the package systemd-boot-efi puts its programs. */
export const EFI_PROGRAMS = "usr/lib/systemd/boot/efi";

const BOOTCTL = { package: "systemd-boot" };

/** UnsupportedError when bootctl is not there: to be asked before anything is written. */
export function requireBootctl(): void {
  requireProgram("bootctl", BOOTCTL.package);
}

export interface BootctlOptions {
  /** Has `usr/lib/os-release` and `EFI_PROGRAMS`; `boot` is made in it. */
  readonly root: string;
  readonly bootPath: string;
  /** For a disk that other machines will boot: leave this machine's EFI variables alone. */
  readonly genericImage: boolean;
}

/** The caller has a mount namespace of its own. */
export function installSystemdBoot(options: BootctlOptions): void {
  const shims = findShims(options.bootPath);
  const boot = join(options.root, "boot");
  mkdirSync(boot, { recursive: true });
  mount(options.bootPath, boot, null, MS.BIND, null);
  try {
    if (shims.length > 0) mount("tmpfs", join(boot, FALLBACK_DIRECTORY), "tmpfs", 0, null);
    const settings = ["--root", options.root, "--esp-path", "/boot"];
    if (options.genericImage) settings.push("--no-variables");
    if (options.genericImage && bootctlVersion() >= 257) settings.push("--random-seed", "no");
    runProgram("bootctl", ["install", ...settings], {
      ...BOOTCTL,
      environment: { SYSTEMD_RELAX_ESP_CHECKS: "1", KERNEL_INSTALL_CONF_ROOT: "/tmp" },
    });
  } finally {
    umount2(boot, MNT.DETACH);
  }
  for (const shim of shims) {
    const plan = planSecondStage(options.bootPath, shim, join(options.root, EFI_PROGRAMS));
    if (plan !== null) applyTransaction(plan);
  }
}

function bootctlVersion(): number {
  const text = runProgram("bootctl", ["--version"], BOOTCTL);
  const match = /^systemd ([0-9]+)/.exec(text);
  if (match === null) {
    throw new UnsupportedError("missing-program", `bootctl does not say its version: "${text}"`);
  }
  return Number(match[1]);
}
