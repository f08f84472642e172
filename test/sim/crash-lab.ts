// A laboratory for interruptions: machines of two tmpfs (disk and ESP) and a /run, made anew from any
// recorded state, and judged: which deployment boots, and is everything it needs there, byte for byte?

import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { finalName, isTemporaryName } from "../../shared/txn/atomic.ts";
import type { BootEntry } from "../../updater/boot/boot-entry.ts";
import { readFailures } from "../../updater/deploy/boot-failure.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { readFinalizeFailure } from "../../updater/deploy/finalize-failure.ts";
import { readImageTree } from "../../updater/deploy/image-tree.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { type UpdateRequest, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import type { CrashState } from "./crash-recorder.ts";
import { type ContentStore, readTree, type Tree, writeTree } from "./observed-tree.ts";
import { findUnifiedFaults } from "./unified-faults.ts";

/** Version V of the image: what is in it tells versions apart. */
export function writeVersions(directory: string, versions: readonly string[]): void {
  for (const version of versions) {
    writeScratchImage(join(directory, `os${version}`), {
      version,
      etc: { file: version, [`only-${version}`]: version },
      kargs: `kargs = ["image=${version}"]`,
    });
  }
}

/**
 * Two file systems of its own, or those it is given: tmpfs does not use inode numbers twice, which the model
 * needs.
 */
export class CrashMachine extends ScratchMachine {
  readonly #ownsEsp: boolean;

  constructor(places: ConstructorParameters<typeof ScratchMachine>[0] = {}) {
    super(places);
    this.#ownsEsp = places.esp === undefined;
    if (this.#ownsEsp) mount("tmpfs", this.esp, "tmpfs", 0, null);
  }

  override [Symbol.dispose](): void {
    if (this.#ownsEsp) umount2(this.esp, MNT.DETACH);
    super[Symbol.dispose]();
  }
}

/** What the loader and the kernel told about this start; it lasts as long as the start. */
export function copyFirmware(machine: ScratchMachine, place: string): void {
  rmSync(place, { recursive: true, force: true });
  cpSync(machine.system().sysfs, place, { recursive: true });
}

export function restoreFirmware(machine: ScratchMachine, place: string): void {
  cpSync(place, machine.system().sysfs, { recursive: true });
}

export interface SavedMachine {
  readonly disk: Tree;
  readonly esp: Tree;
  readonly run: Tree | null;
}

export function saveMachine(machine: ScratchMachine, store: ContentStore): SavedMachine {
  const [disk, esp, run] = [machine.disk, machine.esp, machine.run].map((path) =>
    readTree(path, store),
  ) as [Tree, Tree, Tree];
  return { disk, esp, run };
}

export function restoreMachine(
  saved: SavedMachine | CrashState,
  store: ContentStore,
): CrashMachine {
  const machine = new CrashMachine();
  try {
    writeTree(saved.disk, machine.disk, store);
    writeTree(saved.esp, machine.esp, store);
    if (saved.run !== null) writeTree(saved.run, machine.run, store);
    return machine;
  } catch (error) {
    machine[Symbol.dispose]();
    throw error;
  }
}

export function makeScratch(): string {
  return mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "crash-"));
}

export function update(
  running: RunningMachine,
  imagePath: string,
  changes: Partial<UpdateRequest> = {},
) {
  const reference = makeImageReference("oci", imagePath);
  const request: UpdateRequest = {
    kind: "upgrade",
    reference,
    source: openSource(reference),
    checkOnly: false,
    downloadOnly: false,
    dryRun: false,
    ...changes,
  };
  return updateImage(running, running.booted, request, { onProgress: () => {}, onStep: () => {} });
}

export function cleanUp(running: RunningMachine): void {
  const world = running.world();
  const plan = planCleanup(world, readCleanupScope(running.repo, world));
  applyCleanup(running, plan, { dryRun: false });
}

/** What a deployment needs to start, found wanting; empty: it boots. */
export function findBootFaults(running: RunningMachine, entry: BootEntry): readonly string[] {
  const { system, boot, repo } = running;
  const faults: string[] = [];
  const { target } = entry.entry;
  const id = entry.deploymentId!;
  const [digit = "?"] = entry.entry.version ?? "?";
  if (target.kind === "efi") faults.push(...findUnifiedFaults(running, target.path, id, digit));
  const expected = [`kernel ${digit}`.repeat(40), "initramfs ".repeat(50)];
  const files = target.kind === "linux" ? [target.linux, ...target.initrds] : [];
  for (const [index, path] of files.entries()) {
    const file = join(boot.path, path);
    if (!existsSync(file)) faults.push(`${path} is missing`);
    else if (readFileSync(file, "latin1") !== expected[index]) faults.push(`${path} is wrong`);
  }
  const paths = statePaths(system.physicalRoot, id);
  for (const path of [paths.etc, paths.var, paths.origin]) {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) faults.push(`no ${path}`);
  }
  try {
    faults.push(...findBadObjects(repo, readImageTree(repo, id)));
  } catch (error) {
    faults.push(`image: ${(error as Error).message}`);
  }
  return faults;
}

function findBadObjects(repo: Repository, root: DirectoryNode): string[] {
  const faults: string[] = [];
  const visit = (node: DirectoryNode) => {
    for (const child of node.entries.values()) {
      if (child.kind === "directory") visit(child);
      if (child.kind !== "file" || child.content.kind === "inline") continue;
      const { digest } = child.content;
      if (digest === undefined) continue;
      const path = join(repo.path, "objects", objectPath(digest));
      if (!existsSync(path)) faults.push(`object ${digest.slice(0, 8)} is missing`);
      else if (computeVerityDigest(readFileSync(path), repo.algorithm) !== digest) {
        faults.push(`object ${digest.slice(0, 8)} is damaged`);
      }
    }
  };
  visit(root);
  return faults;
}

/** Name, mode and content of everything below a deployment's /etc. */
function describeEtc(machine: ScratchMachine, id: string): string {
  const hash = createHash("sha256");
  const visit = (path: string, name: string) => {
    const stat = lstatSync(path);
    hash.update(`${name} ${stat.mode.toString(8)} ${stat.isFile() ? readFileSync(path) : ""}\n`);
    if (stat.isDirectory()) {
      for (const each of readdirSync(path).sort()) visit(join(path, each), `${name}/${each}`);
    }
  };
  visit(statePaths(machine.disk, id).etc, "");
  return hash.digest("hex").slice(0, 12);
}

/** Everything of Appendix A, with entry texts, kernels and each deployment's /etc. */
export function describeMachine(machine: ScratchMachine) {
  const list = (path: string) => (existsSync(path) ? readdirSync(path).sort() : null);
  const states = list(join(machine.disk, "state/deploy")) ?? [];
  return {
    menu: describeMenu(machine, "loader/entries"),
    staged: describeMenu(machine, "loader/entries.staged"),
    kernels: (list(join(machine.esp, "EFI/Linux")) ?? []).map((name) => [
      name,
      list(join(machine.esp, "EFI/Linux", name)),
    ]),
    loader: list(join(machine.esp, "loader")),
    states: states.map((id) => [
      id,
      list(join(machine.disk, "state/deploy", id)),
      describeEtc(machine, id),
    ]),
    tags: list(join(machine.disk, "composefs/streams/refs/oci")),
    images: list(join(machine.disk, "composefs/images")),
    failed: readFailures(machine.disk).failures.map(({ id, attempts }) => [id, attempts]),
    notApplied: readFinalizeFailure(machine.system()),
  };
}

function describeMenu(machine: ScratchMachine, directory: string) {
  const path = join(machine.esp, directory);
  if (!existsSync(path)) return null;
  const names = readdirSync(path).sort();
  const files = names.map((name) => [name, readFileSync(join(path, name), "utf8")] as const);
  // A temporary file with the content of the entry it was for stays until the directory goes: on vfat it may be
  // that entry, half renamed (updater/boot/entry-directory.ts). No loader looks at it.
  const isCopy = ([name, text]: readonly [string, string]) =>
    isTemporaryName(name) &&
    files.some((other) => other[0] === finalName(name) && other[1] === text);
  return files.filter((file) => !isCopy(file));
}

export function removeScratch(path: string): void {
  mkdirSync(path, { recursive: true });
  rmSync(path, { recursive: true, force: true });
}

/** The live menu: names and texts. A blessing that was interrupted shows an entry under two names. */
export function menuOf(machine: ScratchMachine): string {
  return formatMenu(describeMenu(machine, "loader/entries") ?? []);
}

export function formatMenu(menu: readonly (readonly [string, string])[]): string {
  const isTwin = ([name]: readonly [string, string]) =>
    name.includes("+") &&
    menu.some(([other]) => other === name.replace(/\+[0-9-]+(?=\.conf$)/, ""));
  return JSON.stringify(menu.filter((entry) => entry[0].endsWith(".conf") && !isTwin(entry)));
}

type Description = ReturnType<typeof describeMachine>;

export function compareMachines(found: Description, wanted: Description): string[] {
  return (Object.keys(wanted) as (keyof Description)[]).flatMap((key) => {
    const [is, should] = [found[key], wanted[key]].map((value) => JSON.stringify(value));
    return is === should ? [] : [`the next run left ${key} ${is}, not ${should}`];
  });
}
