import { expect, test } from "vitest";
import {
  afterStage,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planCleanup } from "./cleanup-plan.ts";
import { planStage } from "./stage-plan.ts";

const installed = installWorld(makeImage("a"));
const staged = afterStage(installed, planStage(installed, stageRequest(makeImage("b"))));
const orphan = { ...installed.states[0]!, id: idOf("e") };
const tag = (digit: string) => `localhost/bootc-sha256:${digit.repeat(64)}`;
const tags = [tag("a"), tag("b"), tag("e"), "localhost/other", "quay.io/x:1"];

test("nothing booted or staged is touched", () => {
  expect(planCleanup(staged, { tags, kernelsOnly: false })).toEqual({
    kernels: [],
    states: [],
    leftovers: [],
    stagedFile: false,
    tags: [tag("e")],
    roots: [idOf("a"), idOf("b")],
  });
});

test("what nothing boots goes, with interrupted work", () => {
  const world = {
    ...installed,
    states: [...installed.states, orphan],
    leftovers: [".partial-x"],
    stagedFile: { id: orphan.id, locked: false },
    kernels: [...installed.kernels, "bootc_composefs-old"],
  };
  expect(planCleanup(world, { tags, kernelsOnly: false })).toEqual({
    kernels: ["bootc_composefs-old"],
    states: [orphan.id],
    leftovers: [".partial-x"],
    stagedFile: true,
    tags: [tag("b"), tag("e")],
    roots: [idOf("a")],
  });
  expect(planCleanup(world, { tags, kernelsOnly: true })).toMatchObject({
    kernels: ["bootc_composefs-old"],
    states: [],
    tags: [],
  });
});

test("a deployment whose manifest is unknown protects every tag", () => {
  const states = staged.states.map((state) =>
    state.id === idOf("b") ? { ...state, origin: null } : state,
  );
  expect(planCleanup({ ...staged, states }, { tags, kernelsOnly: false }).tags).toEqual([]);
});

test("refuses to clean a machine whose running deployment has no entry", () => {
  const world = { ...installed, live: [] };
  expect(() => planCleanup(world, { tags, kernelsOnly: true })).toThrow("has no boot entry");
});
