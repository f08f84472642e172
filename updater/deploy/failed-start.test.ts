import { describe, expect, test } from "vitest";
import {
  afterBoot,
  afterShutdown,
  afterStage,
  afterStart,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { explainCause, planFailure } from "./failed-start.ts";
import { planStage } from "./stage-plan.ts";
import { findUntried } from "./trial.ts";
import type { World } from "./world.ts";

const none = { checks: null, failedUnits: "", jobs: "" };

test.each([
  [
    "health checks before everything else",
    {
      checks: '"web" failed (exit status 1)\n"db" failed (took longer than 60 seconds)\n',
      failedUnits: "x.service loaded failed failed X\n",
      jobs: "",
    },
    'Health check "web" failed (exit status 1), "db" failed (took longer than 60 seconds)',
  ],
  [
    "failed units",
    {
      ...none,
      failedUnits: "a.service loaded failed failed A thing\nb.mount   loaded failed failed /b\n",
    },
    "a.service, b.mount failed",
  ],
  [
    "many",
    {
      ...none,
      failedUnits: [1, 2, 3, 4, 5, 6, 7]
        .map((n) => `u${n}.service loaded failed failed x\n`)
        .join(""),
    },
    "u1.service, u2.service, u3.service, u4.service, u5.service and 2 more failed",
  ],
  [
    "what everything waits for",
    {
      ...none,
      jobs: "120 bootc-boot-failed.service start running\n121 slow.service start running\n98 multi-user.target start waiting\n",
    },
    "Not complete in time, waiting for slow.service",
  ],
  ["nothing to be found", none, "boot-complete.target was not reached"],
])("%s", (_, found, text) => expect(explainCause(found)).toBe(text));

describe("what a failed start changes", () => {
  const installed = installWorld(makeImage("a"));
  const updated = afterShutdown(
    afterStage(installed, planStage(installed, stageRequest(makeImage("b")))),
  );
  const found = { id: idOf("b"), at: "2026-01-01T00:00:00.000Z", detail: "x.service failed" };
  /** The kernel was started for "a". */
  const enter = (world: World, digit: string, count: World["assessment"]["count"]): World => ({
    ...world,
    booted: { id: idOf(digit), verityOptional: false },
    assessment: { startedId: idOf("a"), count },
  });
  const uncounted = { kind: "uncounted" } as const;

  test("of one that the loader counted: nothing but the record", () => {
    expect(findUntried(afterStart(updated))).toBeNull();
    expect(planFailure(afterStart(updated), found)).toEqual({
      kind: "failed",
      record: found,
      restarts: true,
      spends: null,
    });
  });

  test("after a soft reboot into what is to be tried: a try goes, down to the last", () => {
    const soft = enter(updated, "b", uncounted);
    const text = updated.live[0]!.text;
    expect(planFailure(soft, found)).toEqual({
      kind: "failed",
      record: { ...found, detail: "After a soft reboot: x.service failed" },
      restarts: true,
      spends: {
        from: "bootc_fedora-b-1+3.conf",
        to: { fileName: "bootc_fedora-b-1+2-1.conf", text },
      },
    });
    const last = enter(afterStart(afterStart(updated)), "b", uncounted);
    expect(planFailure(last, found)).toMatchObject({
      spends: { from: "bootc_fedora-b-1+1-2.conf", to: { fileName: "bootc_fedora-b-1+0-3.conf" } },
    });
  });

  test("with GRUB its one counter, while it is meant for what runs", () => {
    const count = { kind: "grubenv", blessed: false, fallback: false } as const;
    expect(planFailure(enter(updated, "b", count), found)).toMatchObject({ spends: "grubenv" });
    expect(findUntried(enter(updated, "a", count))).toBeNull();
    expect(findUntried(enter(updated, "b", { ...count, blessed: true }))).toBeNull();
  });

  test("with nothing to fall back to the machine stays, and no try is lost", () => {
    const alone = { ...updated, live: updated.live.slice(0, 1) };
    expect(planFailure(enter(alone, "b", uncounted), found)).toMatchObject({
      restarts: false,
      spends: null,
    });
  });

  test.each([
    ["into a deployment that has proved itself", enter(afterBoot(updated), "b", uncounted)],
    ["into the one that the kernel was started for", enter(updated, "a", uncounted)],
  ])("a soft reboot %s is no trial", (_, world) => expect(findUntried(world)).toBeNull());
});
