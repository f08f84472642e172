import { expect, test } from "vitest";
import {
  afterStage,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planFinalize } from "./finalize-plan.ts";
import { planStage } from "./stage-plan.ts";

const installed = installWorld(makeImage("a"));
const staged = afterStage(installed, planStage(installed, stageRequest(makeImage("b"))));
const id = idOf("b");

test("nothing staged, nothing to do", () => {
  expect(planFinalize(installed)).toMatchObject({ kind: "nothing" });
});

test("download-only waits", () => {
  const locked = { ...staged, stagedFile: { id, locked: true } };
  expect(planFinalize(locked)).toMatchObject({ kind: "nothing" });
});

test("staged and complete: merge and exchange", () => {
  expect(planFinalize(staged)).toEqual({ kind: "merge-and-exchange", id });
});

test("interrupted after the exchange: only cleaning is left, with or without the old directory", () => {
  expect(planFinalize({ ...staged, live: staged.staged!, staged: null })).toEqual({
    kind: "cleanup",
    id,
  });
  expect(planFinalize({ ...staged, live: staged.staged!, staged: staged.live })).toEqual({
    kind: "cleanup",
    id,
  });
});

test.each([
  ["entries are gone", { ...staged, staged: null }, "has no boot entry"],
  ["the fallback would boot first", { ...staged, staged: [...staged.staged!].reverse() }, "first"],
  ["its state is gone", { ...staged, states: installed.states }, "state directory"],
  [
    "its state is half-written",
    { ...staged, states: staged.states.map((state) => ({ ...state, complete: false })) },
    "state directory",
  ],
  ["its kernel is gone", { ...staged, kernels: [] }, "has no kernel"],
])("never exchanges when %s", (_, world, message) => {
  expect(() => planFinalize(world)).toThrow(message);
});
