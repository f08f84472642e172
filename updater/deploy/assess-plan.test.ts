// Whole trials in small worlds: three starts, blessing, falling back, trying again; and why a start failed.

import { describe, expect, test } from "vitest";
import {
  afterAssessment,
  afterBoot,
  afterRollback,
  afterShutdown,
  afterStage,
  afterStart,
  idOf,
  installWorld,
  makeImage,
  NO_RECORDS,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planAssessment } from "./assess-plan.ts";
import { describeFailure, findFailure } from "./boot-failure.ts";
import type { BootRecords } from "./boot-record.ts";
import { planRollback } from "./rollback-plan.ts";
import { assignSlots } from "./slots.ts";
import { planStage } from "./stage-plan.ts";
import { findTrialEntry } from "./trial.ts";
import type { World } from "./world.ts";

const NOW = "2026-02-02T00:00:00.000Z";
const installed = installWorld(makeImage("a"));
const stage = (world: World, digit: string, retryFailed = false) =>
  afterStage(world, planStage(world, stageRequest(makeImage(digit), { retryFailed })));
const shutDownInto = (digit: string, world = installed) => afterShutdown(stage(world, digit));
const files = (world: World) => world.live.map((entry) => entry.fileName);

const updated = shutDownInto("b");
const first = afterStart(updated);
const second = afterStart(first);
const third = afterStart(second);
const fallenBack = afterStart(third);

test("three starts, then the one before", () => {
  expect([updated, first, second, third].map((world) => files(world)[0])).toEqual([
    "bootc_fedora-b-1+3.conf",
    "bootc_fedora-b-1+2-1.conf",
    "bootc_fedora-b-1+1-2.conf",
    // Out of tries: behind everything else.
    "bootc_fedora-a-0.conf",
  ]);
  expect([first, second, third].map((world) => world.booted?.id)).toEqual([
    idOf("b"),
    idOf("b"),
    idOf("b"),
  ]);
  expect(fallenBack.booted?.id).toBe(idOf("a"));
  expect(files(fallenBack)).toEqual(["bootc_fedora-a-0.conf", "bootc_fedora-b-1+0-3.conf"]);
});

test.each([
  ["first", first],
  ["second", second],
  ["third", third],
])("a good %s start takes the counter away, and a second blessing changes nothing", (_, world) => {
  const blessed = afterAssessment(world, true);
  expect(files(blessed)).toEqual(["bootc_fedora-b-1.conf", "bootc_fedora-a-0.conf"]);
  expect(planAssessment(blessed, true, NO_RECORDS, NOW)).toEqual({
    bless: null,
    blessGrub: false,
    grubMenu: null,
    newFailures: [],
    failures: null,
    started: [idOf("b")],
    trialEnds: true,
  });
});

describe("what is not this boot's trial is left alone", () => {
  test("before boot-complete.target", () => {
    expect(planAssessment(first, false, NO_RECORDS, NOW)).toMatchObject({
      bless: null,
      trialEnds: false,
    });
  });

  test("after a soft reboot into a deployment that the loader has not tried", () => {
    const running = { ...updated, assessment: { ...first.assessment, startedId: idOf("a") } };
    const soft = { ...running, booted: { id: idOf("b"), verityOptional: false } };
    expect(findTrialEntry(soft)).toBeNull();
    // The same when the loader had counted the deployment from which it came, under the same name.
    expect(planAssessment(soft, true, NO_RECORDS, NOW).bless).toBeNull();
  });

  test("when the entry was set on trial anew in between", () => {
    const recounted = { ...updated, booted: first.booted, assessment: first.assessment };
    expect(findTrialEntry(recounted)).toBeNull();
  });

  test("when another bootc renamed it, the deployment and the counter still say which it is", () => {
    const rolledBack = afterRollback(first, planRollback(first));
    expect(findTrialEntry(rolledBack)?.fileName).toBe("bootc_fedora-b-1+2-1.conf");
    const renamed = rolledBack.live.map((entry) => ({
      ...entry,
      name: { ...entry.name, id: `x${entry.name.id}` },
    }));
    expect(findTrialEntry({ ...rolledBack, live: renamed })?.deploymentId).toBe(idOf("b"));
  });
});

describe("a failure", () => {
  const known = afterAssessment(fallenBack, false);

  test("is written down once, with what it was", () => {
    const plan = planAssessment(fallenBack, false, NO_RECORDS, NOW);
    expect(plan).toMatchObject({ bless: null, trialEnds: true });
    expect(plan.newFailures).toEqual([
      {
        id: idOf("b"),
        manifestDigest: makeImage("b").manifestDigest,
        image: "ostree-unverified-image:oci:/images/os",
        at: NOW,
        reason: "initramfs",
        detail: "It ended in the kernel or the initramfs, before the system was mounted",
        attempts: 3,
        retrying: false,
      },
    ]);
    expect(plan.failures).toEqual(plan.newFailures);
    expect(planAssessment(known, false, NO_RECORDS, NOW).newFailures).toEqual([]);
    expect(known.failures).toHaveLength(1);
  });

  test("is no rollback, and keeps the image from being staged, whatever names it", () => {
    expect(assignSlots(known)).toMatchObject({ rollback: undefined, rollbackQueued: false });
    expect(assignSlots(known).others.map((entry) => entry.deploymentId)).toEqual([idOf("b")]);
    expect(() => planRollback(known)).toThrow("did not start when it was tried");
    const { manifestDigest } = makeImage("b");
    expect(findFailure(known.failures, { id: idOf("b") })).not.toBeNull();
    expect(findFailure(known.failures, { id: idOf("c"), manifestDigest })).not.toBeNull();
    expect(findFailure(known.failures, { id: idOf("c") })).toBeNull();
    expect(() => stage(known, "b")).toThrow("existing rollback deployment");
  });

  test("leaves the menu with the next update", () => {
    expect(files(shutDownInto("c", known))).toEqual([
      "bootc_fedora-c-1+3.conf",
      "bootc_fedora-a-0.conf",
    ]);
  });

  test("may be tried again: counted from the start, its failures add up, a good start forgets them", () => {
    const again = afterShutdown(stage(known, "b", true));
    expect(files(again)).toEqual(["bootc_fedora-b-1+3.conf", "bootc_fedora-a-0.conf"]);
    expect(findFailure(again.failures, { id: idOf("b") })).toBeNull();
    const good = afterBoot(again);
    expect(good.failures).toEqual([]);
    const bad = afterAssessment(afterStart(afterStart(afterStart(afterStart(again)))), false);
    expect(bad.booted?.id).toBe(idOf("a"));
    expect(bad.failures).toMatchObject([{ id: idOf("b"), attempts: 6, retrying: false }]);
  });

  test("of a deployment that a person then starts by hand is forgotten when that is good", () => {
    const byHand: World = {
      ...known,
      booted: { id: idOf("b"), verityOptional: false },
      live: third.live,
      assessment: third.assessment,
    };
    const good = afterAssessment(byHand, true);
    expect(files(good)[0]).toBe("bootc_fedora-b-1.conf");
    expect(good.failures).toEqual([]);
  });
});

test("from a start on trial one can move on, with the last good deployment behind", () => {
  const moved = shutDownInto("c", first);
  expect(files(moved)).toEqual([
    "bootc_fedora-c-1+3.conf",
    "bootc_fedora-b-0+2-1.conf",
    "bootc_fedora-a-0.conf",
  ]);
  const tries = [1, 2, 3, 4, 5, 6].reduce<World[]>(
    (worlds) => [...worlds, afterStart(worlds.at(-1)!)],
    [moved],
  );
  expect(tries.slice(1).map((world) => world.booted?.id[0])).toEqual([
    "c",
    "c",
    "c",
    "b",
    "b",
    "a",
  ]);
});

test("pinned deployments stay behind, in their order", () => {
  const world = { ...afterBoot(shutDownInto("c", afterBoot(updated))), pins: new Set([idOf("b")]) };
  const pinned = stage(world, "d");
  expect(pinned.staged?.map((entry) => entry.fileName)).toEqual([
    "bootc_fedora-d-1+3.conf",
    "bootc_fedora-c-0.conf",
    "bootc_fedora-b-0.conf",
  ]);
});

test("GRUB has one counter, and a menu in which what was given up must go to the end", () => {
  const layout = { ...updated.layout, loader: "grub", counting: "grubenv" } as const;
  const { live } = afterBoot(updated);
  const plain = live.map((entry) => ({ ...entry, name: { ...entry.name, counter: null } }));
  const [failed, good] = plain as [(typeof plain)[0], (typeof plain)[0]];
  const givenUp = { ...failed, name: { ...failed.name, counter: { left: 0, done: 3 } } };
  const grub = (fallback: boolean, blessed: boolean, digit: string): World => ({
    ...afterBoot(updated),
    layout,
    live: fallback ? [good, givenUp] : plain,
    booted: { id: idOf(digit), verityOptional: false },
    assessment: { startedId: idOf(digit), count: { kind: "grubenv", blessed, fallback } },
  });
  expect(planAssessment(grub(false, false, "b"), true, NO_RECORDS, NOW)).toMatchObject({
    bless: null,
    blessGrub: true,
    trialEnds: true,
  });
  expect(planAssessment(grub(false, false, "b"), false, NO_RECORDS, NOW)).toMatchObject({
    blessGrub: false,
    trialEnds: false,
  });
  // "Good" about the fallback must not bring the failed one back, so that one goes behind the others.
  expect(planAssessment(grub(true, true, "a"), true, NO_RECORDS, NOW)).toMatchObject({
    blessGrub: false,
    grubMenu: [{ fileName: "bootc_bootc-a-1.conf" }, { fileName: "bootc-98.b-0.conf" }],
    newFailures: [{ id: idOf("b"), attempts: 3 }],
    trialEnds: true,
  });
});

describe("why", () => {
  const id = idOf("b");
  const reached = { id, at: "2026-01-01T00:00:03.000Z" };
  const refused = { id, at: "2026-01-01T00:00:01.000Z", text: "the image is damaged" };
  const failed = { id, at: "2026-01-01T00:00:02.000Z", detail: 'Health check "web" failed' };
  const cases: [string, Partial<BootRecords>, string, string][] = [
    ["nothing is known", {}, "initramfs", NOW],
    ["it was mounted", { reached: [reached] }, "unknown", reached.at],
    [
      "it was mounted more than once",
      { reached: [{ id, at: "2025-12-31T00:00:00.000Z" }, reached] },
      "unknown",
      reached.at,
    ],
    [
      "it was mounted, and so was the one that looks now",
      { reached: [reached, { id: idOf("a"), at: "2026-01-02T00:00:00.000Z" }] },
      "unknown",
      reached.at,
    ],
    ["the watchdog bit", { reached: [reached], watchdog: true }, "watchdog", NOW],
    [
      "a check failed, later restarts are ours",
      { reached: [reached], failed, watchdog: true },
      "unit",
      failed.at,
    ],
    ["the image was refused", { refused: { ...refused, kind: "verity" } }, "verity", refused.at],
    [
      "it was refused otherwise",
      { refused: { ...refused, kind: "other" } },
      "initramfs",
      refused.at,
    ],
    [
      "others' records",
      { reached: [{ ...reached, id: idOf("c") }], failed: { ...failed, id: idOf("c") } },
      "initramfs",
      NOW,
    ],
  ];
  test.each(cases)("%s", (_, records, reason, at) => {
    const [failure] = planAssessment(
      fallenBack,
      false,
      { ...NO_RECORDS, ...records },
      NOW,
    ).newFailures;
    expect(failure).toMatchObject({ reason, at });
  });

  test("people get one sentence", () => {
    const [failure] = planAssessment(fallenBack, false, { ...NO_RECORDS, failed }, NOW).newFailures;
    expect(describeFailure(failure!)).toBe(
      'Deployment bbbbbbbbbbbb was tried 3 times and did not start, last at 2026-01-01T00:00:02.000Z (unit: Health check "web" failed)',
    );
  });
});
