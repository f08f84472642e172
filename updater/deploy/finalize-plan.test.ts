import { describe, expect, test } from "vitest";
import {
  afterAssessment,
  afterStage,
  bootCounted,
  foreignEntry,
  idOf,
  installWorld,
  makeEntry,
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
  expect(planFinalize(staged)).toMatchObject({
    kind: "merge-and-exchange",
    id,
    entries: staged.staged!.map(({ fileName, text }) => ({ fileName, text })),
  });
});

describe("since staging", () => {
  const files = (world: typeof staged) => {
    const plan = planFinalize(world);
    if (plan.kind !== "merge-and-exchange") throw new Error(plan.kind);
    return plan.entries.map(({ fileName }) => fileName);
  };
  const trial = bootCounted(installed, "bootc_fedora-a-1", 2, 1);
  const stagedOnTrial = afterStage(trial, planStage(trial, stageRequest(makeImage("b"))));

  test("the boot was blessed: it is no longer counted", () => {
    expect(stagedOnTrial.staged?.map((entry) => entry.fileName)).toEqual([
      "bootc_fedora-b-1+3.conf",
      "bootc_fedora-a-0+2-1.conf",
    ]);
    expect(files(stagedOnTrial)).toEqual(["bootc_fedora-b-1+3.conf", "bootc_fedora-a-0+2-1.conf"]);
    expect(files(afterAssessment(stagedOnTrial, true))).toEqual([
      "bootc_fedora-b-1+3.conf",
      "bootc_fedora-a-0.conf",
    ]);
  });

  test("an interrupted renewal left both names: one stays", () => {
    const blessed = afterAssessment(stagedOnTrial, true);
    const [first, second] = blessed.staged!;
    const renamed = makeEntry("bootc_fedora-a-0.conf", second!.text);
    expect(files({ ...blessed, staged: [first!, renamed, second!] })).toEqual([
      "bootc_fedora-b-1+3.conf",
      "bootc_fedora-a-0.conf",
    ]);
  });

  test("another system on the disk got a new kernel: its entry goes along, its old one not", () => {
    const before = { ...installed, live: [...installed.live, foreignEntry()] };
    const world = afterStage(before, planStage(before, stageRequest(makeImage("b"))));
    const newer = makeEntry("debian-6.18.conf", foreignEntry().text);
    expect(files({ ...world, live: [...installed.live, newer] })).toEqual([
      "bootc_fedora-b-1+3.conf",
      "bootc_fedora-a-0.conf",
      "debian-6.18.conf",
    ]);
  });
});

test("a failed deployment that is tried again keeps its own counter", () => {
  const failed = makeEntry("bootc_fedora-b-1+0-3.conf", staged.staged![0]!.text);
  const retried = { ...staged, live: [...staged.live, failed] };
  expect(planFinalize(retried)).toMatchObject({
    kind: "merge-and-exchange",
    entries: [{ fileName: "bootc_fedora-b-1+3.conf" }, { fileName: "bootc_fedora-a-0.conf" }],
  });
  expect(() => planFinalize({ ...retried, staged: null })).toThrow("has no boot entry");
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
  [
    "the running deployment would be lost",
    { ...staged, staged: staged.staged!.slice(0, 1) },
    "without the running one",
  ],
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
