// bootc.md Appendix A as a table: every row is reached by the planners alone, from the row before.

import { describe, expect, test } from "vitest";
import {
  afterBoot,
  afterCleanup,
  afterRollback,
  afterShutdown,
  afterStage,
  foreignEntry,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planCleanup } from "./cleanup-plan.ts";
import { planRollback } from "./rollback-plan.ts";
import { assignSlots } from "./slots.ts";
import type { NewImage } from "./stage-plan.ts";
import { planStage } from "./stage-plan.ts";
import type { World } from "./world.ts";

const [a, b, c] = [makeImage("a"), makeImage("b"), makeImage("c")];

function stage(world: World, image: NewImage, locked = false): World {
  return afterStage(world, planStage(world, stageRequest(image, { locked })));
}
function rollback(world: World): World {
  return afterRollback(world, planRollback(world));
}
/** As staging ends: with everything that nothing boots. */
function clean(world: World): World {
  return afterCleanup(world, planCleanup(world, { tags: [], kernelsOnly: false }));
}
/** As finalizing ends. */
function cleanKernels(world: World): World {
  return afterCleanup(world, planCleanup(world, { tags: [], kernelsOnly: true }));
}

/** One line per entry: file name, sort key, image. */
function show(entries: World["live"] | null): string[] | null {
  return (
    entries?.map(
      ({ fileName, entry, deploymentId }) => `${fileName} ${entry.sortKey} ${deploymentId?.[0]}`,
    ) ?? null
  );
}
function states(world: World): string {
  return world.states.map((state) => state.id[0]).join("");
}

describe("Appendix A", () => {
  const installed = installWorld(a);
  const staged = clean(stage(installed, b));
  const updated = afterBoot(cleanKernels(afterShutdown(staged)));
  const stagedAgain = clean(stage(updated, c));
  const finalizedAgain = cleanKernels(afterShutdown(stagedAgain));
  const running = afterBoot(finalizedAgain);
  const rolledBack = rollback(clean(running));
  const restored = rollback(rolledBack);
  const downloaded = afterBoot(afterShutdown(stage(installed, b, true)));

  const upgraded = [
    "bootc_fedora-b-1.conf bootc-fedora-0 b",
    "bootc_fedora-a-0.conf bootc-fedora-1 a",
  ];
  // Until it has proved itself, the new one is counted: ours, bootc does not count.
  const counted = ([first, ...rest]: string[]) => [first!.replace(".conf", "+3.conf"), ...rest];
  const again = [
    "bootc_fedora-c-1.conf bootc-fedora-0 c",
    "bootc_fedora-b-0.conf bootc-fedora-1 b",
  ];
  const rows: [string, World, string[], string[] | null, string, string | null][] = [
    ["install", installed, ["bootc_fedora-a-1.conf bootc-fedora-0 a"], null, "a", null],
    ["upgrade", staged, ["bootc_fedora-a-1.conf bootc-fedora-0 a"], counted(upgraded), "ab", "b"],
    ["finalize and reboot", updated, upgraded, null, "ab", null],
    ["upgrade again", stagedAgain, upgraded, counted(again), "abc", "c"],
    ["finalize again", finalizedAgain, counted(again), null, "abc", null],
    ["next collection", clean(running), again, null, "bc", null],
    [
      "rollback",
      rolledBack,
      ["bootc_bootc-b-1.conf bootc-bootc-0 b", "bootc_bootc-c-0.conf bootc-bootc-1 c"],
      null,
      "bc",
      null,
    ],
    [
      "rollback again",
      restored,
      ["bootc_bootc-c-1.conf bootc-bootc-0 c", "bootc_bootc-b-0.conf bootc-bootc-1 b"],
      null,
      "bc",
      null,
    ],
    [
      "download only and reboot",
      downloaded,
      ["bootc_fedora-a-1.conf bootc-fedora-0 a"],
      counted(upgraded),
      "ab",
      null,
    ],
  ];
  test.each(rows)("%s", (_, world, live, stagedEntries, ids, stagedId) => {
    expect(show(world.live)).toEqual(live);
    expect(show(world.staged)).toEqual(stagedEntries);
    expect(states(world)).toBe(ids);
    expect(world.stagedFile?.id[0] ?? null).toBe(stagedId);
  });

  test("slots follow: what runs, what is staged, what can be rolled back to", () => {
    const slots = (world: World) => {
      const { staged: next, rollback: back, others, rollbackQueued } = assignSlots(world);
      return [
        next?.deploymentId?.[0],
        back?.deploymentId?.[0],
        others.map((entry) => entry.deploymentId?.[0]),
        rollbackQueued,
      ];
    };
    expect(slots(installed)).toEqual([undefined, undefined, [], false]);
    expect(slots(staged)).toEqual(["b", undefined, [], false]);
    expect(slots(updated)).toEqual([undefined, "a", [], false]);
    expect(slots(stagedAgain)).toEqual(["c", "a", [], false]);
    expect(slots(rolledBack)).toEqual([undefined, "b", [], true]);
    expect(slots(restored)).toEqual([undefined, "b", [], false]);
    // Left-over staged entries are nobody's.
    expect(slots(downloaded)).toEqual([undefined, undefined, [], false]);
  });

  test("a kernel lives as long as an entry names it", () => {
    const shared = makeImage("b", { bootDigest: a.bootDigest });
    const kernels = [{ name: `bootc_composefs-${a.id}`, bootDigest: a.bootDigest }];
    const withShared = afterStage(
      installed,
      planStage(installed, stageRequest(shared, { kernels })),
    );
    expect(withShared.kernels).toEqual([`bootc_composefs-${a.id}`]);
    const inB = afterBoot(cleanKernels(afterShutdown(withShared)));
    const inC = afterBoot(afterShutdown(stage(inB, c)));
    const cleaned = clean(inC);
    // A's state is gone; its kernel directory still starts B.
    expect(states(cleaned)).toBe("bc");
    expect(cleaned.kernels).toEqual([`bootc_composefs-${a.id}`, `bootc_composefs-${c.id}`]);
  });

  test("staging the same image twice, and another one instead, leaves one staged", () => {
    const other = clean(stage(clean(stage(staged, b)), c));
    expect(states(other)).toBe("ac");
    expect(other.stagedFile?.id).toBe(idOf("c"));
  });

  test("foreign entries go through every exchange unchanged", () => {
    const world = { ...installed, live: [...installed.live, foreignEntry()] };
    const after = rollback(afterBoot(afterShutdown(stage(world, b))));
    expect(after.live.at(-1)).toEqual(foreignEntry());
    expect(after.live).toHaveLength(3);
  });
});
