// Kernels with names from before bootc 1.16 (bootc.md 4.18) get the present ones: copied, the entries written
// again and exchanged, the old ones removed. Nothing is ever renamed: at every moment the entries that are
// live name files that are there. bootc renames first, and a migration by it forgets the entries that need
// none (a machine that has both kinds loses its newer deployment), so no such mixture is left to it.
//
// Reading needs none of this. Without room for the copies, or while something is staged, it waits.

import { join } from "node:path";
import { S_IFMT, S_IFREG } from "../../shared/format/tree/node.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import type { Step } from "../../shared/txn/plan.ts";
import { ARTEFACT_PREFIX } from "../boot/artefact-name.ts";
import { type BootDirectory, kernelRoot } from "../boot/boot-layout.ts";
import { UKI_PARENT } from "../boot/kernel-directory.ts";
import { countBootBytes, measureBootRoom } from "./boot-space.ts";
import type { Deployer } from "./deployer.ts";
import { type EntryFile, replaceEntries } from "./entry-exchange.ts";
import { foreignFiles } from "./foreign-files.ts";
import { findOldNames } from "./host-check.ts";
import { observeWorld, type World } from "./world.ts";

export interface MigrationPlan {
  /** Bare ids: directories of kernels, files and directories of unified ones. */
  readonly names: readonly string[];
  readonly entries: readonly EntryFile[];
}

/** Null when there is nothing to do, or now is not the time. Pure. */
export function planMigration(world: World): MigrationPlan | null {
  const names = findOldNames(world);
  const isStaged = world.stagedFile !== null || world.unread.length > 0;
  // GRUB's names and its other menu are made by the verbs that make menus; there it waits for an update.
  if (names.length === 0 || isStaged || world.layout.loader === "grub") return null;
  const entries = world.live.map(({ fileName, text }) => ({
    fileName,
    text: names.reduce(renameIn, text),
  }));
  return { names, entries: [...entries, ...foreignFiles(world, entries)] };
}

/** Only as a part of a path: the same digits are the deployment's id in the arguments. */
function renameIn(text: string, name: string): string {
  return text
    .replaceAll(`/${name}/`, `/${ARTEFACT_PREFIX}${name}/`)
    .replaceAll(`/${name}.efi`, `/${ARTEFACT_PREFIX}${name}.efi`);
}

/** Before staging: the world as it is then. Reading goes on as before when there is no room. */
export function migrateNames(deployer: Deployer, world: World): World {
  const plan = planMigration(world);
  if (plan === null || !applyMigration(deployer, plan)) return world;
  return observeWorld(deployer.system, deployer.boot, world.booted);
}

/** False when there is no room. */
export function applyMigration(
  { system, boot }: Omit<Deployer, "repo">,
  { names, entries }: MigrationPlan,
): boolean {
  const copies = names.flatMap((name) => listCopies(boot, name));
  const { availableBytes, clusterBytes } = measureBootRoom(boot, null);
  const kernelBytes = copies.flatMap(({ files }) => files.map((file) => file.sizeBytes));
  const directories = copies.length * clusterBytes;
  if (availableBytes < countBootBytes({ kernelBytes, entries }, clusterBytes) + directories) {
    return false;
  }
  const exchange = replaceEntries(system, boot, entries);
  applyTransaction({
    ...exchange,
    prepare: [...copies.flatMap(copySteps), ...exchange.prepare],
    cleanup: [
      ...exchange.cleanup,
      ...copies.map(({ from }): Step => ({ kind: "remove", path: from })),
    ],
  });
  return true;
}

interface Copy {
  readonly from: string;
  readonly to: string;
  /** Of a directory; "" is the file itself. */
  readonly files: readonly { readonly name: string; readonly sizeBytes: number }[];
}

function listCopies({ path, layout }: BootDirectory, name: string): readonly Copy[] {
  const ukis = layout.ukiPath === null ? null : join(layout.ukiPath, UKI_PARENT);
  const kernels = kernelRoot({ path, layout });
  const candidates = [
    [kernels, name],
    ...(ukis === null ? [] : [`${name}.efi`, `${name}.efi.extra.d`].map((each) => [ukis, each])),
  ] as [string, string][];
  return candidates.flatMap(([parent, each]) => {
    const from = join(parent, each);
    const stat = fstatatIfExists(null, from);
    if (stat === null) return [];
    const to = join(parent, `${ARTEFACT_PREFIX}${each}`);
    const isFile = (stat.mode & S_IFMT) === S_IFREG;
    return [
      { from, to, files: isFile ? [{ name: "", sizeBytes: stat.sizeBytes }] : listFiles(from) },
    ];
  });
}

function listFiles(path: string): Copy["files"] {
  using fd = openDirectory(null, path);
  const names = readDirectory(fd).filter(({ type }) => type === "file");
  return names.map(({ name }) => ({
    name: Buffer.from(name).toString("utf8"),
    sizeBytes: fstatatIfExists(fd, name)?.sizeBytes ?? 0,
  }));
}

function copySteps({ from, to, files }: Copy): readonly Step[] {
  if (files[0]?.name === "") return [{ kind: "copy", from, to, mode: 0o644 }];
  return [
    { kind: "mkdir", path: to, mode: 0o755 },
    ...files.map(
      ({ name }): Step => ({
        kind: "copy",
        from: join(from, name),
        to: join(to, name),
        mode: 0o644,
      }),
    ),
    { kind: "sync", path: to },
    { kind: "sync", path: join(to, "..") },
  ];
}
