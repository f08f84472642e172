// A real machine's life on a logged disk, and machines that start from any moment of it: as if the power had gone
// after that write. Invariants: the log has every write and flush from the saved state on; a moment is a number of
// requests of the log; each start has a disk of its own.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { countRequests, openReplay } from "../sim/write-log.ts";
import { cacheDir } from "../support/cache.ts";
import { run } from "../support/run.ts";
import { createSparse } from "./disks.ts";
import { type Machine, resumeMachine, startMachine } from "./machine.ts";
import type { SavedState } from "./saved-state.ts";
import { runTool } from "./tools-root.ts";

const DISK = "disk";
/** Room for the log; a sparse file. */
const LOG_MEGABYTES = 4096;

export interface Chapter {
  readonly name: string;
  /** Versions that may run after a power cut in it. */
  readonly versions: readonly string[];
  /** Requests of the log before it and at its end. */
  readonly from: number;
  readonly to: number;
}

export interface RecordedLife extends Disposable {
  readonly state: SavedState;
  readonly scratch: string;
  readonly log: string;
  readonly chapters: Chapter[];
}

/** A directory for log and disks, which goes with it. */
export async function openLife(state: SavedState): Promise<RecordedLife> {
  mkdirSync(join(cacheDir, "vm"), { recursive: true });
  const scratch = mkdtempSync(join(cacheDir, "vm/life-"));
  const log = join(scratch, "writes.log");
  await createSparse(log, LOG_MEGABYTES);
  const dispose = () => rmSync(scratch, { recursive: true, force: true });
  return { state, scratch, log, chapters: [], [Symbol.dispose]: dispose };
}

/** The saved machine goes on, and every write of its disk goes to the log. */
export function startLife({ state, log }: RecordedLife): Promise<Machine> {
  const disks = state.options.disks.map((disk) => (disk.id === DISK ? { ...disk, log } : disk));
  return resumeMachine({ ...state, options: { ...state.options, disks } }, "life");
}

/** Runs `work` as a part of the life. */
export async function writeChapter(
  life: RecordedLife,
  name: string,
  versions: readonly string[],
  work: () => Promise<unknown>,
): Promise<void> {
  const from = countRequests(life.log);
  await work();
  life.chapters.push({ name, versions, from, to: countRequests(life.log) });
}

export interface LifeReplay extends Disposable {
  /** The disk as it was after so many requests, as a file of its own; never back. */
  readonly cut: (at: number) => Promise<string>;
}

/** The disk as it was when the life began, to be carried forward to its moments. */
export async function replayLife(life: RecordedLife): Promise<LifeReplay> {
  const disk = life.state.options.disks.find(({ id }) => id === DISK)!;
  const image = join(life.scratch, "cut.raw");
  await runTool(["qemu-img", "convert", "-O", "raw", disk.path, image]);
  const replay = openReplay(life.log, image);
  return {
    cut: async (at) => {
      replay.advance(at);
      const copy = join(life.scratch, `cut-${at}.raw`);
      await run(["cp", "--sparse=always", image, copy]);
      return copy;
    },
    [Symbol.dispose]: () => replay[Symbol.dispose](),
  };
}

/** Power on again; `media` are file systems with the next image. The firmware's variables are the saved ones. */
export function startCut(
  { state }: RecordedLife,
  image: string,
  name: string,
  media: readonly { readonly id: string; readonly path: string }[],
): Promise<Machine> {
  return startMachine({
    ...state.options,
    name,
    disks: [
      { id: DISK, path: image, mode: "write" },
      ...media.map((each) => ({ ...each, mode: "read" as const })),
    ],
  });
}
