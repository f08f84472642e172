// The boot loader's directory of the machine that runs: the ESP for systemd-boot and grub-cc, /boot for GRUB
// (bootc.md 4.4, 4.9).
//
// A machine whose loader does not say who it is has GRUB when GRUB's files are there, and else what is on
// its ESP counts.

import { type BootDirectory, borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { detectBootloader } from "./efi-variable.ts";
import { openEsp } from "./esp.ts";
import { findGrubPlace, openGrubBoot } from "./grub-boot.ts";
import type { System } from "./system.ts";

/** The caller has a mount namespace of its own. StateError when the machine has no such directory. */
export function openBootDirectory(system: System, mode: "read" | "write"): BootDirectory {
  if (system.bootPath !== null) {
    return borrowBootDirectory(system.bootPath, makeEspLayout("systemd", system.bootPath));
  }
  const loader = detectBootloader(system);
  if (loader === "grub") {
    const place = findGrubPlace(system);
    if (place !== null) return openGrubBoot(system, place, mode);
  }
  const esp = openEsp(system, "without it what boots cannot be seen or changed");
  const layout = makeEspLayout(loader === "grub-cc" ? "grub-cc" : "systemd", esp.path);
  return { path: esp.path, layout, [Symbol.dispose]: () => esp[Symbol.dispose]() };
}
