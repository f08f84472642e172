// GRUB's directory: /boot of the root disk, or a partition of its own that is mounted on /boot
// (bootc.md 4.4; docs/boot-loaders.md).

import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { BootDirectory, BootLayout } from "./boot-layout.ts";
import { LIVE_ENTRIES } from "./entry-directory.ts";
import { openEsp } from "./esp.ts";
import { GRUB_DIRECTORIES, readGrubCounting } from "./grub-counter.ts";
import { hasUserConfig } from "./grub-user-config.ts";
import { findMount, type MountPoint } from "./mount-table.ts";
import type { System } from "./system.ts";
import { mountWritable } from "./writable-mount.ts";

export interface GrubPlace {
  readonly path: string;
  /** The partition that is mounted there; null when it is a directory of the root disk. */
  readonly partition: MountPoint | null;
}

/** Null when nothing there looks like GRUB's. */
export function findGrubPlace(system: System): GrubPlace | null {
  const below = join(system.physicalRoot, "boot");
  const mounted = join(system.root, "boot");
  const places: readonly GrubPlace[] = [
    { path: below, partition: findMount(system.mounts, below) },
    { path: mounted, partition: findSeparate(system, mounted) },
  ];
  return (
    places.find(
      (place) => (place.path === below || place.partition !== null) && hasGrubFiles(place),
    ) ?? null
  );
}

/** The menu can be shown without the ESP, but not changed. */
function openUkiPath(
  system: System,
  mode: "read" | "write",
  resources: DisposableStack,
): string | null {
  try {
    return resources.use(openEsp(system, "GRUB starts unified kernels from there")).path;
  } catch (error) {
    if (mode === "write") throw error;
    return null;
  }
}

function describeProblem(reason: string | null): string | null {
  return reason === null
    ? null
    : `GRUB does not count how often a new deployment is tried: ${reason}`;
}

/** What is mounted on /boot, unless it is the root disk itself, seen once more. */
function findSeparate(system: System, path: string): MountPoint | null {
  const found = findMount(system.mounts, path);
  const root = findMount(system.mounts, system.physicalRoot);
  const isSame =
    found !== null && found.devMajor === root?.devMajor && found.devMinor === root.devMinor;
  return isSame ? null : found;
}

/** Entries alone say nothing on what may be the ESP: systemd-boot has them there. */
function hasGrubFiles({ path, partition }: GrubPlace): boolean {
  const mayBeEsp = partition !== null && ["vfat", "autofs"].includes(partition.fileSystem);
  const names = mayBeEsp ? GRUB_DIRECTORIES : [LIVE_ENTRIES, ...GRUB_DIRECTORIES];
  return names.some((name) => {
    const directory = join(path, name);
    return (
      existsSync(directory) &&
      statSync(directory).isDirectory() &&
      readdirSync(directory).length > 0
    );
  });
}

/** `mode` "write" makes a partition that is mounted read-only writable, for this process alone. */
export function openGrubBoot(
  system: System,
  place: GrubPlace,
  mode: "read" | "write",
): BootDirectory {
  const { path, partition } = place;
  using resources = new DisposableStack();
  const userConfig = GRUB_DIRECTORIES.map((name) => `${name}/user.cfg`).find((file) =>
    hasUserConfig(join(path, file)),
  );
  const counting = readGrubCounting(system, path);
  const layout: BootLayout = {
    loader: "grub",
    kernelParent: "",
    linuxPrefix: partition === null ? "/boot" : "",
    userConfig: userConfig ?? null,
    ukiPath: userConfig === undefined ? null : openUkiPath(system, mode, resources),
    counting: counting.kind,
    countingProblem: counting.kind === "none" ? describeProblem(counting.reason) : null,
  };
  if (mode === "read" || partition === null || !(partition.readOnly || partition.superReadOnly)) {
    const owned = resources.move();
    return { path, layout, [Symbol.dispose]: () => owned.dispose() };
  }
  const copy = join(system.runDirectory, "bootc/mounts/boot");
  resources.use(mountWritable(partition, copy));
  const owned = resources.move();
  return { path: copy, layout, [Symbol.dispose]: () => owned.dispose() };
}
