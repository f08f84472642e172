// Judging what a power cut leaves, from the log of block writes: every prefix by what a boot loader reads,
// random moments by starting the machine and updating it.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { MNT } from "../../shared/sys/constants.ts";
import { umount2 } from "../../shared/sys/mount.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import type { CutStep } from "../support/power-cut-program.ts";
import { assess } from "../support/scratch-machine.ts";
import { runTool } from "../vm/tools-root.ts";
import {
  CrashMachine,
  cleanUp,
  findBootFaults,
  makeScratch,
  removeScratch,
  update,
  writeVersions,
} from "./crash-lab.ts";
import { type EspState, isWithin, PARTITIONS, partitionOf, readEsp, readMark } from "./cut-disk.ts";
import { makeRandom } from "./seeded-random.ts";
import type { LoggedRequest } from "./write-log.ts";

const FAULT_LIMIT = 20;
/** Of the writes between two flushes. */
const SHUFFLES = 16;

export interface PrefixJudgement {
  readonly counts: {
    readonly prefixes: number;
    readonly durable: number;
    /** Parts of the writes between two flushes, which a disk may make in any order. */
    readonly shuffles: number;
  };
  readonly faults: readonly string[];
}

function apply(disk: Buffer, { offset, data }: LoggedRequest): void {
  if (data.length > 0) disk.set(data, offset);
}

/** The menus that may be found while the step after mark `done` runs. */
function allowed(steps: readonly CutStep[], done: number): ReadonlySet<string> {
  return new Set([steps[done]?.menu ?? "", steps[done + 1]?.menu ?? ""]);
}

/** Every prefix of the log, from the end of the installation on. */
export function judgePrefixes(
  disk: Buffer,
  requests: readonly LoggedRequest[],
  steps: readonly CutStep[],
  seed: number,
): PrefixJudgement {
  const faults: string[] = [];
  const random = makeRandom(seed);
  let [done, prefixes, durable, shuffles] = [-1, 0, 0, 0];
  let state = readEsp(disk);
  /** The menu that was on the disk for certain at the last flush. */
  let flushed = state.menu;
  let epoch: LoggedRequest[] = [];
  /** The disk as of the last flush. */
  const sealed = Buffer.from(disk);
  const complain = (index: number, text: string) => {
    const where = `write ${index} (after ${steps[done]?.verb ?? "nothing"} ${done})`;
    if (faults.length < FAULT_LIMIT) faults.push(`${where}: ${text}`);
  };
  for (const [index, request] of requests.entries()) {
    const mark = readMark(request);
    if (mark !== null && mark !== done) {
      done = mark;
      durable += 1;
      if (flushed !== steps[mark]?.menu)
        complain(index, "the verb returned, but its menu is not safe");
    }
    // A request that is both flushes what came before it.
    if (request.isFlush) {
      if (epoch.length > 1 && done >= 0) {
        for (let n = 0; n < SHUFFLES; n++) {
          shuffles += 1;
          const bad = judgeShuffle(sealed, epoch, random, allowed(steps, done));
          if (bad !== null) complain(index, `in another order: ${bad}`);
        }
      }
      for (const each of epoch) apply(sealed, each);
      epoch = [];
      flushed = state.menu;
    }
    apply(disk, request);
    if (request.data.length === 0 || !isWithin(PARTITIONS.esp, request)) continue;
    epoch.push(request);
    state = readEsp(disk);
    // How the firmware renames what it counts is its own affair.
    if (done < 0 || steps[done + 1]?.verb === "start") continue;
    prefixes += 1;
    for (const fault of state.faults) complain(index, fault);
    if (!allowed(steps, done).has(state.menu)) complain(index, "the menu is neither old nor new");
  }
  if (done !== steps.length - 1) faults.push(`the log ends after mark ${done} of ${steps.length}`);
  return { counts: { prefixes, durable, shuffles }, faults };
}

/** Any part of the writes between two flushes; null: old or new. `sealed` is the same afterwards. */
function judgeShuffle(
  sealed: Buffer,
  epoch: readonly LoggedRequest[],
  random: (limit: number) => number,
  menus: ReadonlySet<string>,
): string | null {
  const undo: LoggedRequest[] = [];
  for (const request of epoch) {
    if (random(2) !== 0) continue;
    const { offset, data } = request;
    undo.push({ ...request, data: Buffer.from(sealed.subarray(offset, offset + data.length)) });
    apply(sealed, request);
  }
  const state = readEsp(sealed);
  for (const request of undo.reverse()) apply(sealed, request);
  if (state.faults.length > 0) return state.faults.join("; ");
  return menus.has(state.menu) ? null : "the menu is neither old nor new";
}

export interface Moments {
  readonly count: number;
  readonly fsckCount: number;
  readonly seed: number;
}

/** Random moments after the installation: the machine is started, and updated once more. */
export async function judgeMoments(
  disk: Buffer,
  requests: readonly LoggedRequest[],
  steps: readonly CutStep[],
  { count, fsckCount, seed }: Moments,
  scratch: string,
): Promise<{ readonly count: number; readonly faults: readonly string[] }> {
  const random = makeRandom(seed + 1);
  const first = requests.findIndex((request) => readMark(request) === 0);
  // After the last verb only the switches on ext4 follow.
  const last = requests.findIndex(
    (request) => steps[readMark(request) ?? -1]?.verb === "exchange on ext4",
  );
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(first + 1 + random(last - first - 1));
  const images = makeScratch();
  writeVersions(images, ["9"]);
  const faults: string[] = [];
  let [done, judged] = [-1, 0];
  try {
    for (const [index, request] of requests.entries()) {
      apply(disk, request);
      done = readMark(request) ?? done;
      if (!chosen.has(index)) continue;
      judged += 1;
      const found = await judgeMachine(disk, join(images, "os9"), scratch);
      if (judged <= fsckCount) found.push(...(await checkFat(disk, scratch)));
      faults.push(
        ...found.map((fault) => `moment ${index} (after ${steps[done]?.verb} ${done}): ${fault}`),
      );
    }
  } finally {
    removeScratch(images);
  }
  return { count: judged, faults };
}

async function judgeMachine(disk: Buffer, imagePath: string, scratch: string): Promise<string[]> {
  const root = mountRoot(disk, scratch);
  try {
    using machine = new CrashMachine({ disk: root.path });
    writeEsp(readEsp(disk), machine.esp);
    const faults: string[] = [];
    let running = machine.boot(0, false);
    try {
      for (const entry of running.world().live) faults.push(...findBootFaults(running, entry));
      // On trial it would keep what proved itself last as well.
      assess(running, true);
      await update(running, imagePath);
      finalizeStaged(running, running.world());
      running[Symbol.dispose]();
      running = machine.boot(0, false);
      assess(running, true);
      cleanUp(running);
      const { live, pins, problems, strays, leftovers } = running.world();
      if (live[0]?.entry.version !== "9") faults.push("the next update does not boot");
      for (const entry of live) faults.push(...findBootFaults(running, entry));
      const isRight = live.length >= 2 && live.length <= 2 + pins.size;
      if (!isRight) faults.push(`${live.length} entries are left, ${pins.size} pinned`);
      const rest = [...problems, ...strays, ...leftovers];
      if (rest.length > 0) faults.push(`left over: ${rest.join(", ")}`);
    } catch (error) {
      faults.push((error as Error).message);
    } finally {
      running[Symbol.dispose]();
    }
    return faults;
  } finally {
    root.unmount();
  }
}

/** The root partition as after a power cut: its journal is replayed now. */
function mountRoot(disk: Buffer, scratch: string) {
  const directory = mkdtempSync(join(scratch, "moment-"));
  const [image, path] = [join(directory, "root.raw"), join(directory, "root")];
  writeFileSync(image, partitionOf(disk, PARTITIONS.root));
  mkdirSync(path);
  execFileSync("mount", ["-t", "ext4", "-o", "loop", image, path]);
  return {
    path,
    unmount: () => {
      umount2(path, MNT.DETACH);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function writeEsp({ tree }: EspState, path: string): void {
  for (const [name, bytes] of tree.files) {
    const target = join(path, name);
    mkdirSync(name.endsWith("/") ? target : dirname(target), { recursive: true });
    if (!name.endsWith("/")) writeFileSync(target, bytes);
  }
}

/** What fsck would mend beyond the mark of a file system in use, and space nobody has. */
async function checkFat(disk: Buffer, scratch: string): Promise<string[]> {
  const image = join(scratch, "fsck.raw");
  writeFileSync(image, partitionOf(disk, PARTITIONS.esp));
  const text = await runTool(["sh", "-c", 'fsck.vfat -n "$1" || true', "sh", image]);
  rmSync(image);
  return text
    .split("\n")
    .filter((line) =>
      /share|free cluster(?! summary)|Start does|bad file|Contains|truncat/i.test(line),
    )
    .map((line) => `fsck: ${line.trim()}`);
}

/** Switches of a menu on ext4: at each moment one whole menu. `every`: of so many writes one. */
export function judgeExt4(
  disk: Buffer,
  requests: readonly LoggedRequest[],
  steps: readonly CutStep[],
  scratch: string,
  every: number,
): { readonly count: number; readonly faults: readonly string[] } {
  const faults: string[] = [];
  let [done, count, wasFlush] = [-1, 0, false];
  for (const [index, request] of requests.entries()) {
    const mark = readMark(request);
    const isOnExt4 = steps[done]?.ext4 !== undefined && steps[done]!.ext4 !== "";
    if (mark !== null && mark !== done) {
      done = mark;
      const menu = steps[mark]?.ext4 ?? "";
      if (menu !== "" && readExt4Menu(disk, scratch) !== menu) {
        faults.push(`mark ${mark}: the exchange returned, but is not safe`);
      }
    }
    apply(disk, request);
    if (!isOnExt4 || request.data.length === 0 || !isWithin(PARTITIONS.root, request)) {
      wasFlush = request.isFlush;
      continue;
    }
    if (!wasFlush && index % every !== 0) continue;
    wasFlush = request.isFlush;
    count += 1;
    const menu = readExt4Menu(disk, scratch);
    const expected = [steps[done]!.ext4, steps[done + 1]?.ext4];
    if (!expected.includes(menu))
      faults.push(`write ${index}: the menu on ext4 is neither: ${menu}`);
  }
  return { count, faults: faults.slice(0, FAULT_LIMIT) };
}

function readExt4Menu(disk: Buffer, scratch: string): string {
  const root = mountRoot(disk, scratch);
  try {
    const directory = join(root.path, "boot/loader/entries");
    const files = readdirSync(directory)
      .sort()
      .map((name) => [name, readFileSync(join(directory, name), "utf8")]);
    return createHash("sha256").update(JSON.stringify(files)).digest("hex").slice(0, 16);
  } catch (error) {
    return (error as Error).message;
  } finally {
    root.unmount();
  }
}
