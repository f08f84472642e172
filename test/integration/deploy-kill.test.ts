// A process that updates and finalizes is killed at random moments: the machine boots the old or the new, and
// the next run comes to the same end, in the same boot or after another.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  CrashMachine,
  compareMachines,
  copyFirmware,
  describeMachine,
  findBootFaults,
  makeScratch,
  menuOf,
  removeScratch,
  restoreFirmware,
  restoreMachine,
  saveMachine,
  writeVersions,
} from "../sim/crash-lab.ts";
import { SCENARIOS, VERSIONS } from "../sim/crash-scenarios.ts";
import { ContentStore } from "../sim/observed-tree.ts";
import { makeRandom } from "../sim/seeded-random.ts";

const KILLS = process.env["TEST_ALL"] === undefined ? 6 : 100;
const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const LIMIT_MS = 3_600_000;
const scenario = SCENARIOS.find(({ name }) => name === "stage and finalize")!;

let scratch: string;
beforeAll(() => {
  scratch = makeScratch();
  writeVersions(scratch, VERSIONS);
});
afterAll(() => removeScratch(scratch));

/** Milliseconds from its first word to its end, or to the kill; null: it was at its end before. */
async function runChild(argv: readonly string[], killAfterMs: number): Promise<number | null> {
  const program = join(import.meta.dirname, "../support/deploy-child.ts");
  const child = spawn(process.execPath, [program, ...argv], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<NodeJS.Signals | null>((resolve) =>
    child.once("exit", (_code, signal) => resolve(signal)),
  );
  await new Promise((resolve) => child.stdout!.once("data", resolve));
  const started = performance.now();
  const timer = setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  const signal = await ended;
  clearTimeout(timer);
  const lastedMs = performance.now() - started;
  return signal === "SIGKILL" || killAfterMs === LIMIT_MS ? lastedMs : null;
}

test(
  `${KILLS} kills`,
  async () => {
    const store = new ContentStore();
    using machine = new CrashMachine();
    using running = await scenario.prepare(machine, scratch);
    const { id } = running.booted;
    const saved = saveMachine(machine, store);
    copyFirmware(machine, join(scratch, "firmware"));
    const menus = [menuOf(machine)];
    await scenario.verb(running, scratch);
    menus.push(menuOf(machine));
    await scenario.finish(machine, running, scratch);
    const final = describeMachine(machine);
    const image = join(scratch, "os3");

    let wholeMs = 0;
    {
      using other = restoreMachine(saved, store);
      wholeMs = (await runChild([other.directory, id, image], LIMIT_MS))!;
      expect(menuOf(other)).toBe(menus[1]!);
    }
    const random = makeRandom(SEED);
    const found = { old: 0, new: 0 };
    for (let kill = 0; kill < KILLS; ) {
      using other = restoreMachine(saved, store);
      restoreFirmware(other, join(scratch, "firmware"));
      // Every other one about the end, where the menu changes.
      const part = kill % 2 === 0 ? random(1000) / 1000 : 0.7 + random(400) / 1000;
      const afterMs = part * wholeMs;
      if ((await runChild([other.directory, id, image], afterMs)) === null) continue;
      kill += 1;
      const what = `kill ${kill} after ${afterMs.toFixed(1)} of ${wholeMs.toFixed(1)} ms`;
      const menu = menuOf(other);
      expect(menus, what).toContain(menu);
      found[menu === menus[0] ? "old" : "new"] += 1;
      using next = kill % 2 === 0 ? other.resume(id) : other.boot(0, false);
      for (const entry of next.world().live) expect(findBootFaults(next, entry), what).toEqual([]);
      await scenario.finish(other, next, scratch);
      expect(compareMachines(describeMachine(other), final), what).toEqual([]);
    }
    console.log(`${KILLS} kills: ${found.old} found the old menu, ${found.new} the new one`);
  },
  LIMIT_MS,
);
