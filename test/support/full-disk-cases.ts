// Full disks: staging is refused before anything is written, with numbers that are right to the cluster. Runs
// on any two file systems: tmpfs in test/integration, real ext4 and vfat in a guest.
//
//   bun full-disk-cases.js DISK ESP KIND     prints the results as JSON

import { createHash } from "node:crypto";
import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeError } from "../../shared/error.ts";
import { syncPath } from "../../shared/txn/durable.ts";
import { UKI_PARENT } from "../../updater/boot/kernel-directory.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { writeScratchImage } from "./scratch-image.ts";
import { installScratch } from "./scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "./scratch-machine.ts";
import { updateScratch } from "./scratch-update.ts";
import { writeUnifiedImage } from "./unified-image.ts";

export const FULL_DISK_RESULT = {
  oneClusterShort: { refused: true, unchanged: true },
  exactly: { staged: true },
  stagedGivesWay: { staged: true, kernels: 3 },
  fallbackStays: { refused: true, unchanged: true, namesRollback: true, saysLast: true },
  rootFull: { refused: true, unchanged: true },
};

/** Plain kernels, or sealed ones with an addon of their own and one for all of them. */
export type KernelKind = "plain" | "sealed";

/** About 2 MB of kernel and initramfs, others for each version. */
const kernelOf = (version: string) => `${version} `.repeat(12_000);

async function writeImage(path: string, version: string, kind: KernelKind): Promise<void> {
  const image = { version, kernel: kernelOf(version) };
  if (kind === "plain") writeScratchImage(path, image);
  else {
    await writeUnifiedImage(path, {
      ...image,
      cmdline: "composefs=?ID",
      addons: { "own.addon.efi": `own=${version}` },
      globalAddons: { [`bootc-${version}.addon.efi`]: version.repeat(9_000) },
    });
  }
}

class Case {
  readonly #images: string;
  readonly #kind: KernelKind;
  readonly #machine: ScratchMachine;
  running: RunningMachine;

  private constructor(machine: ScratchMachine, images: string, kind: KernelKind) {
    this.#machine = machine;
    this.#kind = kind;
    this.#images = images;
    this.running = machine.boot();
  }

  static async make(disk: string, esp: string, kind: KernelKind): Promise<Case> {
    const machine = new ScratchMachine({ disk, esp });
    const images = mkdtempSync(join(tmpdir(), "full-disk-"));
    await writeImage(join(images, "os1"), "1", kind);
    await installScratch(machine, join(images, "os1"), { rootMountSpec: "", kargs: [] });
    return new Case(machine, images, kind);
  }

  /** Null when it was staged, else what was said. */
  async stage(version: string): Promise<string | null> {
    const path = join(this.#images, `os${version}`);
    await writeImage(path, version, this.#kind);
    try {
      const { kind } = await updateScratch(this.running, path);
      return kind === "staged" ? null : kind;
    } catch (error) {
      return describeError(error);
    }
  }

  restart(): void {
    finalizeStaged(this.running, this.running.world());
    this.running[Symbol.dispose]();
    this.running = this.#machine.boot();
  }

  cleanUp(): void {
    const world = this.running.world();
    const plan = planCleanup(world, readCleanupScope(this.running.repo, world));
    applyCleanup(this.running, plan, { dryRun: false });
  }

  /** Everything, by path, size and content. */
  observe(): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    const walk = (path: string) => {
      const stat = lstatSync(path);
      const hash = createHash("sha256").update(stat.isFile() ? readFileSync(path) : "");
      found.set(path, `${stat.mode} ${hash.digest("hex")}`);
      if (stat.isDirectory()) for (const name of readdirSync(path)) walk(join(path, name));
    };
    for (const part of [this.#machine.disk, this.#machine.esp, this.#machine.run]) walk(part);
    return found;
  }

  get esp(): string {
    return this.#machine.esp;
  }

  get disk(): string {
    return this.#machine.disk;
  }

  [Symbol.dispose](): void {
    this.running[Symbol.dispose]();
    rmSync(this.#images, { recursive: true, force: true });
  }
}

function listChanges(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): readonly string[] {
  const paths = new Set([...before.keys(), ...after.keys()]);
  // The update that there is may be noted; directories for objects stay when the objects go.
  const isHarmless = (path: string) => /cached-update\.json$|objects\/[0-9a-f]{2}$/.test(path);
  return [...paths].filter((path) => before.get(path) !== after.get(path) && !isHarmless(path));
}

/** Leaves exactly so many bytes (a whole number of clusters, or fewer). */
function leaveFree(path: string, freeBytes: number): void {
  const filler = join(path, "filler");
  rmSync(filler, { force: true });
  writeFileSync(filler, "");
  syncPath(path);
  for (let attempt = 0; attempt < 16; attempt++) {
    const { bavail, bsize } = statfsSync(path);
    const surplus = bavail * bsize - freeBytes;
    if (surplus >= 0 && surplus < bsize) return;
    // ext4 takes blocks for its tree of extents: what is too much comes off at the next look.
    const size = lstatSync(filler).size + Math.floor(surplus / bsize) * bsize;
    if (surplus < 0) truncateSync(filler, size);
    else appendFileSync(filler, Buffer.alloc(size - lstatSync(filler).size, 1));
    syncPath(filler);
    syncPath(path);
  }
  throw new Error(`cannot leave ${freeBytes} bytes free in "${path}"`);
}

function clearFiller(path: string): void {
  rmSync(join(path, "filler"), { force: true });
  syncPath(path);
}

const requiredBytes = (message: string) => Number(/required: ([0-9]+) bytes/.exec(message)?.[1]);
const isRefusal = (message: string | null) =>
  message?.startsWith("Insufficient free space") === true;

/** Until it fits: one check may know less than the next. */
async function findRequirement(machine: Case, version: string): Promise<number> {
  let required = 0;
  for (;;) {
    leaveFree(machine.esp, required);
    const message = await machine.stage(version);
    if (message === null) return required;
    const next = requiredBytes(message);
    if (!(next > required)) throw new Error(`${message} with ${required} bytes left free`);
    required = next;
  }
}

export async function runFullDisk(
  disk: string,
  esp: string,
  kind: KernelKind,
): Promise<typeof FULL_DISK_RESULT> {
  using machine = await Case.make(disk, esp, kind);
  const kernelDirectory = join(esp, kind === "plain" ? "EFI/Linux" : UKI_PARENT);
  machine.cleanUp();
  const clusterBytes = statfsSync(esp).bsize;
  const refuse = async (version: string) => {
    const before = machine.observe();
    const message = await machine.stage(version);
    const changed = listChanges(before, machine.observe());
    return { message, refused: isRefusal(message), unchanged: changed.length === 0, changed };
  };

  // What is asked for is enough, to the cluster.
  const required = await findRequirement(machine, "2");
  machine.restart();
  machine.cleanUp();
  clearFiller(esp);
  const first = machine.running.world();
  // Again from the same starting point: the running deployment and one to fall back to.
  leaveFree(esp, required - clusterBytes);
  const short = await refuse("3");
  leaveFree(esp, required);
  const exact = await machine.stage("3");
  // No room for a fourth kernel, but the third is going to be replaced.
  leaveFree(esp, required / 4);
  const replaced = await machine.stage("4");
  const kernels = readdirSync(kernelDirectory).filter((name) => !name.endsWith(".extra.d")).length;
  machine.restart();
  machine.cleanUp();
  // Two kernels and nothing staged: only the fallback could make room.
  leaveFree(esp, required / 4);
  const fallback = await refuse("5");
  const rollback = machine.running.world().live.at(-1)?.deploymentId ?? "none";
  clearFiller(esp);
  leaveFree(disk, 1 << 20);
  const root = await refuse("6");
  clearFiller(disk);
  if (first.live.length !== 2) throw new Error("the second version did not get a fallback");
  const result = {
    oneClusterShort: { refused: short.refused, unchanged: short.unchanged },
    exactly: { staged: exact === null },
    stagedGivesWay: { staged: replaced === null, kernels },
    fallbackStays: {
      refused: fallback.refused,
      unchanged: fallback.unchanged,
      namesRollback: fallback.message?.includes(`bootc delete-deployment ${rollback}`) === true,
      saysLast: fallback.message?.includes("nothing to fall back to") === true,
    },
    rootFull: { refused: root.refused, unchanged: root.unchanged },
  };
  const messages = [short.message, exact, replaced, fallback.message, root.message];
  if (JSON.stringify(result) !== JSON.stringify(FULL_DISK_RESULT)) {
    const changed = [short.changed, fallback.changed, root.changed];
    throw new Error(JSON.stringify({ result, messages, changed, required, clusterBytes }));
  }
  return result;
}

if (import.meta.main) {
  const [disk = "", esp = "", kind = "plain"] = process.argv.slice(2);
  mkdirSync("/tmp", { recursive: true });
  writeSync(1, JSON.stringify(await runFullDisk(disk, esp, kind as KernelKind)));
}
