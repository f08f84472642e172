import { describe, expect, test } from "vitest";
import {
  afterBoot,
  afterRollback,
  afterShutdown,
  afterStage,
  bootCounted,
  foreignEntry,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planDelete } from "./delete-plan.ts";
import { listDeployments, resolveDeployment } from "./deployment-name.ts";
import { planPin } from "./pin-plan.ts";
import { planRollback } from "./rollback-plan.ts";
import { planStage } from "./stage-plan.ts";
import type { World } from "./world.ts";

const [a, b, c] = [makeImage("a"), makeImage("b"), makeImage("c")];
const stage = (world: World, image: typeof a) =>
  afterStage(world, planStage(world, stageRequest(image)));
const ids = (entries: World["live"] | null) =>
  entries?.map(({ deploymentId }) => deploymentId?.[0]);

/** The running deployment is blessed. */
function blessed(world: World): World {
  const live = world.live.map((entry) => ({ ...entry, name: { ...entry.name, counter: null } }));
  return { ...world, live };
}

const installed = installWorld(a);
const staged = stage(installed, b);
/** b runs, a is the rollback. */
const updated = blessed(afterBoot(afterShutdown(staged)));
/** b runs, a is the rollback, c is staged. */
const stagedAgain = stage(updated, c);
const queued = afterRollback(updated, planRollback(updated));

describe("planDelete", () => {
  test("the staged deployment: the staged menu goes as a whole", () => {
    expect(planDelete(stagedAgain, idOf("c"))).toEqual({
      id: idOf("c"),
      slot: "staged",
      revertsRollback: false,
      dropsStaged: true,
      live: null,
      staged: null,
    });
  });

  test("the rollback while something is staged, which stays", () => {
    const world = { ...stagedAgain, live: [...stagedAgain.live, foreignEntry()] };
    const plan = planDelete(world, idOf("a"));
    expect(plan).toMatchObject({ slot: "rollback", dropsStaged: false, staged: null });
    expect(ids(plan.live)).toEqual(["b", undefined]);
    // The entries are those of the menu, in their places.
    expect(plan.live).toEqual(world.live.filter(({ deploymentId }) => deploymentId !== idOf("a")));
  });

  test("a queued rollback is none any more", () => {
    const plan = planDelete(queued, idOf("a"));
    expect(plan).toMatchObject({ slot: "rollback", revertsRollback: true });
    expect(ids(plan.live)).toEqual(["b"]);
  });

  test("also from the menu that is staged", () => {
    const pinned = { ...updated, pins: new Set([idOf("a")]) };
    const world = { ...stage(pinned, c), pins: new Set<string>() };
    expect(ids(world.staged)).toEqual(["c", "b", "a"]);
    const plan = planDelete(world, idOf("a"));
    expect(ids(plan.staged)).toEqual(["c", "b"]);
    expect(ids(plan.live)).toEqual(["b"]);
  });

  test("state without an entry", () => {
    const world = { ...updated, live: updated.live.filter((e) => e.deploymentId === idOf("b")) };
    expect(planDelete(world, idOf("a"))).toMatchObject({ slot: "other", live: null, staged: null });
  });

  test.each<[string, World, string, string]>([
    ["what runs", updated, "b", "Cannot delete currently booted deployment"],
    ["what is pinned", { ...updated, pins: new Set([idOf("a")]) }, "a", "bootc pin --unpin aaaa"],
    ["with half the machine unread", { ...updated, unread: ["live"] }, "a", "Nothing is deleted"],
  ])("refuses %s", (_, world, digit, message) => {
    expect(() => planDelete(world, idOf(digit))).toThrow(message);
  });

  test("refuses the only way back while the running deployment is on trial", () => {
    const started = afterBoot(afterShutdown(staged));
    const entry = started.live.find(({ deploymentId }) => deploymentId === idOf("b"))!;
    const trial = bootCounted(started, entry.name.id, 2, 1);
    expect(() => planDelete(trial, idOf("a"))).toThrow("falls back to");
    expect(planDelete(updated, idOf("a")).live).toHaveLength(1);
  });
});

describe("resolveDeployment", () => {
  test.each([
    ["booted", "b"],
    ["rollback", "a"],
    ["staged", "c"],
    [idOf("a"), "a"],
    ["a", "a"],
    ["CCC", "c"],
  ])("%s", (name, digit) => {
    expect(resolveDeployment(stagedAgain, name)).toBe(idOf(digit));
  });

  test("an ambiguous beginning names enough of each", () => {
    const other = `${"a".repeat(20)}${"b".repeat(108)}`;
    const world = {
      ...stagedAgain,
      states: [...stagedAgain.states, { ...stagedAgain.states[0]!, id: other }],
    };
    expect(listDeployments(world)).toHaveLength(4);
    expect(() => resolveDeployment(world, "aa")).toThrow(
      `"aa" is the beginning of several deployments: ${"a".repeat(21)}, ${"a".repeat(20)}b`,
    );
    expect(resolveDeployment(world, `${"a".repeat(20)}b`)).toBe(other);
  });

  test.each([
    ["", "not found"],
    ["d", "Deployment d not found; there are"],
    ["__proto__", "not found"],
  ])("%j is none", (name, message) => {
    expect(() => resolveDeployment(updated, name)).toThrow(message);
  });

  test("a slot that is empty", () => {
    expect(() => resolveDeployment(updated, "staged")).toThrow("There is no staged deployment");
    expect(() => resolveDeployment(installed, "rollback")).toThrow(
      "There is no rollback deployment",
    );
  });
});

describe("planPin", () => {
  test("pins once, unpins once", () => {
    expect(planPin(updated, idOf("a"), true)).toEqual({
      id: idOf("a"),
      pinned: true,
      changes: true,
    });
    const pinned = { ...updated, pins: new Set([idOf("a")]) };
    expect(planPin(pinned, idOf("a"), true).changes).toBe(false);
    expect(planPin(pinned, idOf("a"), false).changes).toBe(true);
    expect(planPin(updated, idOf("a"), false).changes).toBe(false);
  });

  test("what is staged may be pinned", () => {
    expect(planPin(stagedAgain, idOf("c"), true).changes).toBe(true);
  });

  test("what cannot boot cannot be pinned, but unpinned", () => {
    const gone = { ...updated, live: updated.live.filter((e) => e.deploymentId === idOf("b")) };
    expect(() => planPin(gone, idOf("a"), true)).toThrow("no boot entry starts it");
    expect(planPin({ ...gone, pins: new Set([idOf("a")]) }, idOf("a"), false).changes).toBe(true);
    const broken = { ...updated, states: updated.states.map((s) => ({ ...s, complete: false })) };
    expect(() => planPin(broken, idOf("a"), true)).toThrow("its state is not complete");
  });

  test("a pinned deployment stays in the menu of every update", () => {
    const pinned = { ...updated, pins: new Set([idOf("a")]) };
    const next = blessed(afterBoot(afterShutdown(stage(pinned, c))));
    expect(ids(next.live)).toEqual(["c", "b", "a"]);
    const after = stage(next, makeImage("d"));
    expect(ids(after.staged)).toEqual(["d", "c", "a"]);
  });
});
