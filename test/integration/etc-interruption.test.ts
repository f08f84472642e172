// Merging /etc at shutdown, and taking the image's default back, cut off at every system call that changes
// something, and failing at every one of them with EIO and ENOSPC. Before and after there is a whole /etc,
// the live one is never touched by a merge, and doing it again finishes. Needs root.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  linkSync,
  readdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { fromByteString } from "../../shared/format/tree/node.ts";
import { openMachineEtc, readDiff, readResetPlan } from "../../updater/deploy/etc-machine.ts";
import { applyEtcReset } from "../../updater/deploy/etc-reset.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { makeDirectory, readBack } from "../support/etc-directories.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";

const calls = vi.hoisted(() => ({
  count: 0,
  /** From this call on nothing happens any more ("stop"), or only this one fails with an errno. */
  at: Number.POSITIVE_INFINITY,
  how: "stop" as "stop" | number,
}));

vi.mock("../../shared/sys/libc.ts", async (load) => {
  const real = await load<typeof import("../../shared/sys/libc.ts")>();
  const CHANGING = new Set(
    `linkat symlinkat unlinkat mkdirat mknodat write pwrite copy_file_range renameat2 fchmod fchmodat
     fchownat utimensat lsetxattr lremovexattr ftruncate fsync syncfs`.split(/\s+/),
  );
  /** Null: go on. */
  const intervene = (name: string): number | null => {
    if (!CHANGING.has(name)) return null;
    calls.count += 1;
    if (calls.how !== "stop") return calls.count === calls.at ? -calls.how : null;
    if (calls.count >= calls.at) throw new Error("the machine stopped");
    return null;
  };
  return {
    ...real,
    attempt: (...call: Parameters<typeof real.attempt>) =>
      intervene(call[0]) ?? real.attempt(...call),
    attemptSyscall: (...call: Parameters<typeof real.attemptSyscall>) =>
      intervene(call[0]) ?? real.attemptSyscall(...call),
  };
});

const [EIO, ENOSPC] = [5, 28];
/** How, and at every which call. */
const HOWS = [
  ["stop", 1],
  [EIO, process.env["TEST_ALL"] === undefined ? 4 : 1],
  [ENOSPC, process.env["TEST_ALL"] === undefined ? 3 : 1],
] as const;

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
  release();
});
afterEach(() => {
  release();
  machine[Symbol.dispose]();
});

function release(): void {
  calls.count = 0;
  calls.at = Number.POSITIVE_INFINITY;
}

const etcOf = (id: string) => statePaths(machine.disk, id).etc;

/** Files of image 1; image 2 changes each and has one more. */
const ETC = { kept: "1", changed: "1", gone: "1", policy: "1", link: "1", swap: "1" };

async function install(): Promise<string> {
  writeScratchImage(imagePath, { version: "1", etc: ETC });
  return (await installScratch(machine, imagePath)).id;
}

async function stageSecond(running: RunningMachine): Promise<string> {
  const etc = Object.fromEntries(Object.keys(ETC).map((name) => [name, "2"]));
  writeScratchImage(imagePath, { version: "2", etc: { ...etc, fresh: "2" } });
  const reference = makeImageReference("oci", imagePath);
  const request = {
    ...({ kind: "upgrade", checkOnly: false, downloadOnly: false, dryRun: false } as const),
    ...{ reference, source: openSource(reference) },
  };
  const outcome = await updateImage(running, running.booted, request, {
    onProgress: () => {},
    onStep: () => {},
  });
  if (outcome.kind !== "staged") throw new Error(outcome.kind);
  return outcome.id;
}

/** Everything of the machine but its repository, which neither changes. */
function saveMachine(): () => void {
  const saved = join(machine.directory, "saved");
  const parts = { state: join(machine.disk, "state"), esp: machine.esp, run: machine.run };
  execFileSync("mkdir", [saved]);
  for (const [name, path] of Object.entries(parts)) {
    execFileSync("cp", ["-a", path, join(saved, name)]);
  }
  return () => {
    for (const [name, path] of Object.entries(parts)) {
      rmSync(path, { recursive: true });
      execFileSync("cp", ["-a", join(saved, name), path]);
    }
  };
}

/** Which deployment the first entry starts. */
function nextBoot(): string {
  const names = readdirSync(join(machine.esp, "loader/entries")).sort().reverse();
  const text = execFileSync("cat", [join(machine.esp, "loader/entries", names[0]!)]).toString();
  return /composefs=\??([0-9a-f]{128})/.exec(text)![1]!;
}

test("finalizing is cut off or fails at every call", async () => {
  const first = await install();
  using running = machine.boot();
  const etc = etcOf(first);
  writeFileSync(join(etc, "changed"), "local");
  unlinkSync(join(etc, "gone"));
  unlinkSync(join(etc, "swap"));
  symlinkSync("/srv/swap", join(etc, "swap"));
  linkSync(join(etc, "link"), join(etc, "alias"));
  makeDirectory(join(etc, "mine"), { f: "m @600:5:6", "sub/p": "| @600", "sub/": "@700" });
  makeDirectory(join(etc, "bootc"), {
    "etc-merge.toml": '[[rule]]\npath = "/etc/policy"\naction = "image"\n',
  });
  writeFileSync(join(etc, "policy"), "local");
  const second = await stageSecond(running);
  const live = readBack(etc);
  const merged = {
    ...{ kept: "2", changed: "local", policy: "2", fresh: "2", link: "2", alias: "1" },
    ...{ swap: "-> /srv/swap", "mine/": "", "mine/f": "m @600:5:6", "mine/sub/": "@700" },
    ...{
      "mine/sub/p": "| @600",
      "bootc/": "",
      "bootc/etc-merge.toml": live["bootc/etc-merge.toml"],
    },
  };
  const restore = saveMachine();
  const finalize = () => {
    using again = machine.resume(first);
    return finalizeStaged(again, again.world());
  };

  release();
  expect(finalize()).toMatchObject({ id: second });
  const total = calls.count;
  expect(total).toBeGreaterThan(60);
  expect(nextBoot()).toBe(second);
  expect(readBack(etcOf(second))).toEqual(merged);

  const boots = { old: 0, new: 0 };
  for (const [how, every] of HOWS) {
    for (let at = every; at <= total; at += every) {
      const where = `${how} at call ${at}`;
      restore();
      Object.assign(calls, { count: 0, at, how });
      try {
        finalize();
      } catch {}
      release();
      expect(readBack(etc), where).toEqual(live);
      const next = nextBoot();
      boots[next === second ? "new" : "old"] += 1;
      // What boots now is whole, also if nobody ever goes on with this.
      if (next === second) expect(readBack(etcOf(second)), where).toEqual(merged);
      finalize();
      expect(nextBoot(), where).toBe(second);
      expect(readBack(etcOf(second)), where).toEqual(merged);
      expect(readBack(etc), where).toEqual(live);
      const left = readdirSync(statePaths(machine.disk, second).directory);
      expect(
        left.filter((name) => name.includes("partial")),
        where,
      ).toEqual([]);
    }
  }
  expect(boots.old).toBeGreaterThan(total / 2);
  expect(boots.new).toBeGreaterThan(10);
}, 120_000);

test("a reset is cut off or fails at every call: each path is the old or the new", async () => {
  const first = await install();
  using running = machine.boot();
  const etc = etcOf(first);
  writeFileSync(join(etc, "changed"), "local");
  unlinkSync(join(etc, "gone"));
  unlinkSync(join(etc, "swap"));
  makeDirectory(join(etc, "swap"), { x: "mine" });
  unlinkSync(join(etc, "link"));
  symlinkSync("elsewhere", join(etc, "link"));
  writeFileSync(join(etc, "added"), "mine");
  const before = readBack(etc);
  const paths = ["changed", "gone", "swap", "link"];
  const whole = { ...ETC, added: "mine" };
  const restore = saveMachine();
  const reset = () => {
    const sides = openMachineEtc(running, running.world());
    applyEtcReset(etc, running.repo, readResetPlan(sides, paths, { removeAdded: false }));
  };
  release();
  reset();
  const total = calls.count;
  expect(readBack(etc)).toEqual(whole);
  expect(total).toBeGreaterThan(20);

  for (const [how, every] of HOWS) {
    for (let at = every; at <= total; at += every) {
      const where = `${how} at call ${at}`;
      restore();
      Object.assign(calls, { count: 0, at, how });
      let failed = false;
      try {
        reset();
      } catch {
        failed = true;
      }
      release();
      // Removing a directory first tries unlink, whose errno says nothing.
      if (how === "stop") expect(failed, where).toBe(true);
      if (!failed) expect(readBack(etc), where).toEqual(whole);
      const now = readBack(etc);
      for (const path of paths) {
        const sides = [before, whole].map((side) => show(side, path));
        expect(sides, `${path}, ${where}`).toContainEqual(show(now, path));
      }
      // Whatever is left over is not carried into an update.
      const { added } = readDiff(openMachineEtc(running, running.world()));
      expect(added.map(fromByteString).filter((name) => name.includes("partial"))).toEqual([]);
      reset();
      expect(readBack(etc), where).toEqual(whole);
    }
  }
  expect(existsSync(join(etc, "added"))).toBe(true);
}, 120_000);

/** A path with all that is below it. */
function show(flat: Readonly<Record<string, string>>, path: string) {
  return Object.entries(flat).filter(([name]) => name === path || name.startsWith(`${path}/`));
}
