// Runs in a guest whose disk writes are logged (test/vm/power-cut.test.ts): a machine's life on real ext4 and
// vfat, verb by verb. After each verb its number is written to a partition of its own, which tells where in
// the log it ended.
//
//   bun power-cut-program.js DISK ESP MARKERS GENERATIONS     prints what the menu was after each verb

import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { syncPath } from "../../shared/txn/durable.ts";
import { borrowBootDirectory } from "../../updater/boot/boot-layout.ts";
import { LIVE_ENTRIES } from "../../updater/boot/entry-directory.ts";
import { replaceEntries } from "../../updater/deploy/entry-exchange.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import {
  CrashMachine,
  cleanUp,
  makeScratch,
  menuOf,
  update,
  writeVersions,
} from "../sim/crash-lab.ts";
import { deleteRollback, pinBooted, setArgument } from "../sim/crash-scenarios.ts";
import { installScratch } from "./scratch-install.ts";
import { assess, type RunningMachine } from "./scratch-machine.ts";

const [disk = "", esp = "", markers = "", count = ""] = process.argv.slice(2);
const VERSIONS = ["1", "2", "3", "4"];
const EXT4_GENERATIONS = 8;

export interface CutStep {
  readonly verb: string;
  /** Digest of the live menu on the ESP, and of the one on ext4, after it. */
  readonly menu: string;
  readonly ext4: string;
}

const steps: CutStep[] = [];
const images = makeScratch();
writeVersions(images, VERSIONS);
const machine = new CrashMachine({ disk, esp });
const digest = (text: string) => createHash("sha256").update(text).digest("hex").slice(0, 16);
let ext4 = "";

function mark(verb: string): void {
  const bytes = Buffer.alloc(512);
  bytes.write("MARK");
  bytes.writeUInt32LE(steps.length, 4);
  const fd = openSync(markers, "r+");
  writeSync(fd, bytes, 0, bytes.length, 0);
  fsyncSync(fd);
  closeSync(fd);
  steps.push({ verb, menu: digest(menuOf(machine)), ext4 });
}

/** Verbs that only change what is there; a deletion leaves nothing to go back to. */
function changeMore(generation: number): void {
  if (generation % 2 === 0) {
    setArgument(running, `${generation}`);
    mark("kargs");
  }
  if (generation % 4 === 1) {
    pinBooted(running);
    mark("pin");
    pinBooted(running, false);
    mark("unpin");
  }
  if (generation % 4 === 3) {
    deleteRollback(running);
    mark("delete");
  }
}

const image = (version: string) => join(images, `os${version}`);
await installScratch(machine, image("1"));
mark("install");
let running: RunningMachine = machine.boot(0, false);
for (let generation = 1; generation <= Number(count); generation++) {
  await update(running, image(VERSIONS[generation % VERSIONS.length]!));
  mark("stage");
  finalizeStaged(running, running.world());
  mark("finalize");
  running[Symbol.dispose]();
  running = machine.boot(0, false);
  // The firmware writes through.
  syncPath(join(esp, LIVE_ENTRIES));
  mark("start");
  assess(running, true);
  mark("bless");
  if (generation % 3 === 0) {
    for (let n = 0; n < 2; n++) {
      applyRollback(running, planRollback(running.world()));
      mark("rollback");
    }
  }
  cleanUp(running);
  mark("cleanup");
  changeMore(generation);
}
running[Symbol.dispose]();

// A boot partition with ext4, as GRUB machines have it: the switch alone.
const boot = join(disk, "boot");
mkdirSync(boot);
const directory = borrowBootDirectory(boot, running.boot.layout);
for (let generation = 0; generation < EXT4_GENERATIONS; generation++) {
  const files = ["a", "b"].map((name) => ({
    fileName: `bootc_${name}-${generation}.conf`,
    text: `generation ${generation} ${name}\n`.repeat(40),
  }));
  applyTransaction(replaceEntries(running.system, directory, files));
  ext4 = digest(JSON.stringify(files.map(({ fileName, text }) => [fileName, text])));
  mark("exchange on ext4");
}
machine[Symbol.dispose]();
writeSync(1, `${JSON.stringify(steps)}\n`);
