// A real machine that is interrupted: its programs by SIGKILL while they stage and while they finalize; and its power,
// by starting disks that were cut after a random write of all that (QEMU's blklogwrites). Each machine runs the old or
// the new, whole and with its local changes, and takes the next update.
//
// Goes on from the machine of the boot assessment tests: version 1 runs, version 2 is staged.

import { appendFileSync, copyFileSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeRandom } from "../sim/seeded-random.ts";
import { ensureMedia } from "./installed-disk.ts";
import type { Machine } from "./machine.ts";
import { ensureProductImages } from "./product-image.ts";
import {
  type Chapter,
  openLife,
  type RecordedLife,
  replayLife,
  startCut,
  startLife,
  writeChapter,
} from "./recorded-life.ts";
import { ensureSibling, ensureSiblingMedia } from "./sibling-image.ts";
import { ensureTrialState } from "./trial-machine.ts";

const ALL = process.env["TEST_ALL"] !== undefined;
const KILLS = { stage: ALL ? 8 : 1, finalize: ALL ? 6 : 2 };
const CUTS = ALL ? 12 : 1;
/** Machines that are started beside each other. */
const AT_ONCE = 2;
const SLOW_MS = 900_000;
const random = makeRandom(Number(process.env["CRASH_SEED"] ?? 1));
/** What a whole run takes on a slow machine; later kills find it at its end. */
const STAGE_MS = 30_000;
const FINALIZE_MS = 6_000;
const UNIT = "bootc-finalize-staged.service";

let life: RecordedLife;
let machine: Machine;
/** File systems with the images that come next: a sibling of version 1, and version 3. */
let media: readonly { readonly id: string; readonly path: string }[];
const killed = { stage: 0, finalize: 0 };

beforeAll(async () => {
  const { v1, v3 } = await ensureProductImages(console.log);
  const sibling = await ensureSibling(v1, "1.1", console.log);
  media = [
    { id: "sibling", path: await ensureSiblingMedia(sibling) },
    { id: "stick3", path: await ensureMedia(v3) },
  ];
  life = await openLife(await ensureTrialState());
  machine = await startLife(life);
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
  life?.[Symbol.dispose]();
});

const must = (command: string) => machine.must(command, { timeoutMs: SLOW_MS });
const mount = (id: string) =>
  `mkdir -p /run/${id} && { mountpoint -q /run/${id} || mount -o ro /dev/disk/by-id/virtio-${id} /run/${id}; }`;
const switchTo = (id: string) => `bootc switch --quiet --transport oci /run/${id}/os.oci`;
const report = (text: string) => {
  console.log(text);
  const path = process.env["CRASH_REPORT"];
  if (path !== undefined) appendFileSync(path, `${text}\n`);
};

/** A failing step keeps the machine's log and disks. */
async function step(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    machine.keep();
    throw error;
  }
}

const chapter = (name: string, versions: readonly string[], work: () => Promise<unknown>) =>
  writeChapter(life, name, versions, work);

interface Slot {
  readonly image: { readonly version: string };
}
interface Status {
  readonly booted: Slot;
  readonly staged: Slot | null;
  readonly rollback: Slot | null;
  readonly problems?: readonly string[];
}

async function readStatus(on: Machine = machine): Promise<Status> {
  const text = await on.must("bootc status --format json", { timeoutMs: SLOW_MS });
  return (JSON.parse(text) as { status: Status }).status;
}

const versionOf = (slot: Slot | null) => slot?.image.version ?? null;

/** For sleep(1). */
const inSeconds = (ms: number) => (ms / 1000).toFixed(3);

/** Whether it was killed; else it was at its end before. */
async function killAfter(command: string, ms: number): Promise<boolean> {
  const { code } = await machine.run(
    `${command} >/dev/null 2>&1 & sleep ${inSeconds(ms)}; kill -KILL $!; wait $!`,
    { timeoutMs: SLOW_MS },
  );
  return code === 137;
}

/** From now on, and until the next start, the unit's program is killed after this time. */
const killUnitAfter = (ms: number) =>
  `mkdir -p /run/systemd/system/${UNIT}.d && printf '[Service]\\nExecStop=\\nExecStop=/bin/sh -c "/usr/bin/bootc composefs-finalize-staged & sleep ${inSeconds(ms)}; kill -KILL $$!; wait $$!; exit $$?"\\n' > /run/systemd/system/${UNIT}.d/kill.conf && systemctl daemon-reload`;

describe.sequential("SIGKILL", () => {
  it(`of a program that stages, at ${KILLS.stage} moments: the next run stages`, () =>
    step(async () => {
      await must(
        "echo precious > /etc/precious && mkdir -p /var/lib/demo && echo data > /var/lib/demo/file && sync",
      );
      await machine.addDisk({ ...media[0]!, mode: "read" });
      await must(mount("sibling"));
      await chapter("stage, killed", ["1"], async () => {
        for (let limitMs = STAGE_MS; killed.stage < KILLS.stage; ) {
          const ms = random(limitMs);
          if (await killAfter(switchTo("sibling"), ms)) killed.stage += 1;
          else {
            // It was quicker.
            limitMs = Math.max(ms, 200);
            await must("bootc delete-deployment staged");
          }
          const { booted, staged, problems = [] } = await readStatus();
          expect(versionOf(booted)).toBe("1");
          expect(["2", "1.1", null]).toContain(versionOf(staged));
          expect(problems).toEqual([]);
        }
      });
      await chapter("stage", ["1"], () => must(switchTo("sibling")));
      expect(versionOf((await readStatus()).staged)).toBe("1.1");
    }));

  it(`of the finalize unit's program, at ${KILLS.finalize} moments: the next stop finalizes`, () =>
    step(async () => {
      await chapter("finalize, killed", ["1", "1.1"], async () => {
        for (let n = 0; n < KILLS.finalize; n++) {
          // The first one is certainly before its end.
          const ms = n === 0 ? 50 : random(FINALIZE_MS);
          await must(`systemctl start ${UNIT} && ${killUnitAfter(ms)}`);
          await must(`systemctl stop ${UNIT}; systemctl reset-failed`);
          const { booted, staged, problems = [] } = await readStatus();
          expect(versionOf(booted)).toBe("1");
          // What was cut off says so, and nothing else is wrong.
          for (const problem of problems) expect(problem).toMatch(/was not applied .*was cut off/);
          // At its end before.
          if (staged === null) break;
          killed.finalize += 1;
        }
      });
      await must(`rm -r /run/systemd/system/${UNIT}.d && systemctl daemon-reload`);
      await chapter("finalize", ["1", "1.1"], () =>
        must(`systemctl start ${UNIT} && systemctl stop ${UNIT} && systemctl start ${UNIT}`),
      );
      const status = await readStatus();
      expect([status.booted, status.staged, status.rollback].map(versionOf)).toEqual([
        "1",
        null,
        "1.1",
      ]);
    }));

  it("is followed by other verbs", () =>
    step(async () => {
      await chapter("rollback", ["1", "1.1"], () => must("bootc rollback && bootc rollback"));
      await chapter("kargs", ["1", "1.1"], () => must("bootc kargs --append cut.a=1"));
    }));
});

/** Starts a disk as it was after `at` requests. */
async function judgeCut(image: string, { name, versions }: Chapter, at: number): Promise<void> {
  const started = performance.now();
  const next = media[1]!;
  await using cut = await startCut(life, image, `cut-${at}`, [next]);
  try {
    await cut.waitReady(SLOW_MS);
    const state = await cut.must(
      "systemctl is-system-running --wait; systemctl --failed --no-legend",
      {
        timeoutMs: SLOW_MS,
      },
    );
    expect(state).toBe("running");
    const version = await cut.must("cat /usr/lib/bootc-demo/version");
    expect(versions, `what runs after a cut in "${name}"`).toContain(version);
    expect(await cut.must("cat /etc/precious /var/lib/demo/file")).toBe("precious\ndata");
    const before = await readStatus(cut);
    expect(versionOf(before.booted)).toBe(version);
    await cut.must(`${mount(next.id)} && ${switchTo(next.id)}`, { timeoutMs: SLOW_MS });
    const { staged, problems = [] } = await readStatus(cut);
    expect(versionOf(staged)).toBe("3");
    expect(problems).toEqual([]);
    if (ALL) await cut.must("bootc internals gc && bootc internals fsck", { timeoutMs: SLOW_MS });
    const seconds = Math.round((performance.now() - started) / 1000);
    const found = JSON.stringify(before.problems ?? []);
    report(`cut after request ${at} ("${name}"): ${version}, problems ${found}; ${seconds} s`);
  } catch (error) {
    cut.keep();
    throw error;
  }
}

/** Moments from all over the log, in its order; with few of them, of chapters that chance picks. */
function chooseMoments(chapters: readonly Chapter[], count: number) {
  const written = chapters.filter(({ from, to }) => to > from);
  const chosen = Array.from({ length: count }, (_, n) => {
    const share = (n * 100 + random(100)) / (100 * count);
    const one = written[Math.floor(share * written.length)]!;
    return { chapter: one, at: one.from + 1 + random(one.to - one.from) };
  });
  // One moment is one disk.
  const byMoment = new Map(chosen.map((each) => [each.at, each]));
  return [...byMoment.values()].sort((a, b) => a.at - b.at);
}

describe.sequential("a power cut", () => {
  it(
    `after ${CUTS} of its writes: the disk boots, and takes the next update`,
    async () => {
      await machine.kill();
      const { chapters } = life;
      report(`killed ${JSON.stringify(killed)}; ${JSON.stringify(chapters)}`);
      const keep = process.env["CRASH_KEEP"];
      if (keep !== undefined) copyFileSync(life.log, `${keep}/life.log`);
      using replay = await replayLife(life);
      const moments = chooseMoments(chapters, CUTS);
      for (let n = 0; n < moments.length; n += AT_ONCE) {
        const some = moments.slice(n, n + AT_ONCE);
        const images = new Map<number, string>();
        for (const { at } of some) images.set(at, await replay.cut(at));
        const judged = some.map((one) => judgeCut(images.get(one.at)!, one.chapter, one.at));
        const failed = (await Promise.allSettled(judged)).filter(
          ({ status }) => status === "rejected",
        );
        for (const { reason } of failed as PromiseRejectedResult[]) throw reason;
        for (const image of images.values()) rmSync(image);
      }
      expect(killed.finalize).toBeGreaterThan(0);
    },
    4 * SLOW_MS,
  );
});
