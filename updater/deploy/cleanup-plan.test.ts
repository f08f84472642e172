import { describe, expect, test } from "vitest";
import {
  afterStage,
  foreignEntry,
  idOf,
  installWorld,
  makeEntry,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import type { BrokenEntry } from "../boot/entry-directory.ts";
import { planCleanup } from "./cleanup-plan.ts";
import { planStage } from "./stage-plan.ts";
import type { World } from "./world.ts";

const installed = installWorld(makeImage("a"));
const staged = afterStage(installed, planStage(installed, stageRequest(makeImage("b"))));
const orphan = { ...installed.states[0]!, id: idOf("e") };
const tag = (digit: string) => `localhost/bootc-sha256:${digit.repeat(64)}`;
const tags = [tag("a"), tag("b"), tag("e"), "localhost/other", "quay.io/x:1"];
const all = { tags, kernelsOnly: false };
/** Everything that could go, lying about. */
const littered: World = {
  ...installed,
  states: [...installed.states, orphan],
  leftovers: [".partial-x"],
  kernels: [...installed.kernels, "bootc_composefs-old", idOf("d")],
  ukis: [`bootc_composefs-${idOf("d")}.efi`, `bootc_composefs-${idOf("d")}.efi.extra.d`],
  strays: ["loader/entries/.x.conf.partial-0123456789ab"],
};

test("nothing booted or staged is touched", () => {
  expect(planCleanup(staged, all)).toEqual({
    kernels: [],
    ukis: [],
    globalAddons: [],
    strays: [],
    stagedEntries: false,
    states: [],
    leftovers: [],
    stagedFile: false,
    tags: [tag("e")],
    roots: [idOf("a"), idOf("b")],
    kept: [],
  });
});

test("what nothing boots goes, with interrupted work, whatever its name is", () => {
  const world = { ...littered, stagedFile: { id: orphan.id, locked: false } };
  expect(planCleanup(world, all)).toEqual({
    kernels: ["bootc_composefs-old", idOf("d")],
    ukis: littered.ukis,
    globalAddons: [],
    strays: littered.strays,
    stagedEntries: false,
    states: [orphan.id],
    leftovers: [".partial-x"],
    stagedFile: true,
    tags: [tag("b"), tag("e")],
    roots: [idOf("a")],
    kept: [],
  });
  expect(planCleanup(world, { tags, kernelsOnly: true })).toMatchObject({
    kernels: ["bootc_composefs-old", idOf("d")],
    states: [],
    tags: [],
  });
});

test("a staging whose record went with a restart is given up, its kernel and state go", () => {
  const plan = planCleanup({ ...staged, stagedFile: null }, all);
  expect(plan).toMatchObject({ stagedEntries: true, states: [idOf("b")], roots: [idOf("a")] });
  expect(plan.kernels).toEqual([`bootc_composefs-${idOf("b")}`]);
  expect(
    planCleanup({ ...staged, stagedFile: null }, { ...all, kernelsOnly: true }).kernels,
  ).toEqual([]);
  const lost: World = { ...staged, staged: staged.live };
  expect(planCleanup(lost, all)).toMatchObject({ stagedEntries: true, stagedFile: true });
  const unread: World = { ...staged, stagedFile: null, unread: ["staged-file"] };
  expect(planCleanup(unread, all)).toMatchObject({ stagedEntries: false, states: [], kernels: [] });
});

test("a shared kernel outlives the deployment it is named after", () => {
  // The one entry left, of b, starts the kernel that a brought.
  const [name] = installed.kernels;
  const text = installed.live[0]!.text.replaceAll(
    `composefs=${idOf("a")}`,
    `composefs=${idOf("b")}`,
  );
  const world: World = {
    ...installed,
    booted: { id: idOf("b"), verityOptional: false },
    live: [makeEntry("bootc_fedora-b-1.conf", text)],
    states: [...installed.states, { ...installed.states[0]!, id: idOf("b") }],
  };
  expect(planCleanup(world, all)).toMatchObject({ kernels: [], states: [idOf("a")] });
  expect(world.kernels).toEqual([name]);
});

describe("pins", () => {
  const pins = new Set([orphan.id]);
  test("keep state, image and the kernel of that name without any entry", () => {
    const kernel = `bootc_composefs-${orphan.id}`;
    const world = { ...littered, pins, kernels: [...littered.kernels, kernel] };
    const plan = planCleanup(world, all);
    expect(plan).toMatchObject({ states: [], roots: [idOf("a"), orphan.id] });
    expect(plan.kernels).toEqual(["bootc_composefs-old", idOf("d")]);
  });

  test("keep every kernel when theirs is unknown", () => {
    const plan = planCleanup({ ...littered, pins }, all);
    expect(plan).toMatchObject({ kernels: [], ukis: [], states: [], leftovers: [".partial-x"] });
    expect(plan.kept).toEqual([expect.stringContaining("pinned deployment eeee")]);
  });
});

describe("what is not certain stays", () => {
  const broken = (changes: Partial<BrokenEntry>): BrokenEntry => ({
    fileName: "x.conf",
    bytes: new Uint8Array(),
    mentions: [],
    isOurs: true,
    problem: "is broken",
    ...changes,
  });
  test.each<[string, Partial<World>, RegExp]>([
    ["the entries cannot be read", { unread: ["live"] }, /cannot be read/],
    ["the staged ones cannot", { unread: ["staged"] }, /cannot be read/],
    ["an entry of ours is broken", { brokenLive: [broken({})] }, /"x.conf".*fsck --repair/],
    [
      "a staged one is, and may be applied",
      { brokenStaged: [broken({})], stagedFile: { id: idOf("b"), locked: false } },
      /"x.conf"/,
    ],
    ["the running deployment has no entry", { live: [] }, /running deployment aaaa.*no boot entry/],
    ["there are no entries at all", { live: [], booted: null }, /no boot entries/],
  ])("%s: leftovers and objects go all the same", (_, changes, reason) => {
    const plan = planCleanup({ ...littered, ...changes }, all);
    expect(plan).toMatchObject({
      kernels: [],
      ukis: [],
      states: [],
      stagedFile: false,
      stagedEntries: false,
      leftovers: littered.leftovers,
      strays: littered.strays,
    });
    expect(plan.roots).toEqual([idOf("a"), orphan.id]);
    expect(plan.kept).toEqual([expect.stringMatching(reason)]);
    const atShutdown = planCleanup({ ...littered, ...changes }, { ...all, kernelsOnly: true });
    expect(atShutdown.kernels).toEqual([]);
  });

  test.each<[string, Partial<World>]>([
    ["somebody else's entry is broken", { brokenLive: [broken({ isOurs: false })] }],
    ["staged ones are broken that nothing will apply", { brokenStaged: [broken({})] }],
    ["there are foreign entries", { live: [...installed.live, foreignEntry()] }],
    ["there are problems", { problems: ["something"] }],
  ])("%s: no reason to keep anything", (_, changes) => {
    expect(planCleanup({ ...littered, ...changes }, all)).toEqual(planCleanup(littered, all));
  });
});

describe("tags", () => {
  const states = staged.states.map((state) =>
    state.id === idOf("b") ? { ...state, origin: null } : state,
  );
  test("a deployment whose manifest is unknown protects every one", () => {
    const plan = planCleanup({ ...staged, states }, all);
    expect(plan.tags).toEqual([]);
    expect(plan.kept).toEqual([expect.stringContaining("deployment bbbb")]);
  });

  test("unless its image tells, as also for one whose digest is from an old record", () => {
    const tagsById = new Map([[idOf("b"), [tag("b")]]]);
    expect(planCleanup({ ...staged, states }, { ...all, tagsById }).tags).toEqual([tag("e")]);
    const uncertain = staged.states.map((state) => ({ ...state, digestUncertain: true as const }));
    expect(planCleanup({ ...staged, states: uncertain }, all).tags).toEqual([]);
  });
});
