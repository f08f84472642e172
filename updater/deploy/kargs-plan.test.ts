import { describe, expect, test } from "vitest";
import { StateError, UnsupportedError } from "../../shared/error.ts";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import {
  afterBoot,
  afterShutdown,
  afterStage,
  foreignEntry,
  idOf,
  installWorld,
  makeEntry,
  makeImage,
  SYSTEMD_LAYOUT,
  stageRequest,
} from "../../test/support/small-world.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { sortEntries } from "../boot/boot-entry.ts";
import { type KargsEdits, parseEdits } from "./kargs-edit.ts";
import { findNextEntry, type KargsPlan, planKargs } from "./kargs-plan.ts";
import { type SourcedOptions, setSourceOptions } from "./kargs-source.ts";
import { planRollback } from "./rollback-plan.ts";
import { planStage } from "./stage-plan.ts";
import { findTrialEntry } from "./trial.ts";
import type { World } from "./world.ts";

const [a, b, c] = [makeImage("a"), makeImage("b"), makeImage("c")];
const installed = installWorld(a);
const staged = afterStage(installed, planStage(installed, stageRequest(b)));
const downloaded = afterStage(installed, planStage(installed, stageRequest(b, { locked: true })));
const upgraded = bless(afterBoot(afterShutdown(staged)));

function inMenu(entries: readonly BootEntry[]): BootEntry[] {
  return sortEntries(entries, "systemd");
}

/** As whoever judges a start does when it was good. */
function bless(world: World): World {
  return {
    ...world,
    live: inMenu(world.live.map(({ name, text }) => makeEntry(`${name.id}.conf`, text))),
  };
}

const NONE: KargsEdits = {
  delete: [],
  deleteIfPresent: [],
  replace: [],
  append: [],
  appendIfMissing: [],
};

function edit(edits: Partial<KargsEdits>) {
  const line = parseEdits({ ...NONE, ...edits });
  return ({ options, extra }: SourcedOptions) => ({ options: line(options), extra });
}
const append = (text: string) => edit({ append: [text] });

function afterKargs(world: World, { change }: KargsPlan): World {
  switch (change.kind) {
    case "nothing":
      return world;
    case "staged": {
      const { fileName, text } = change.entry;
      const others = world.staged!.filter((entry) => entry.fileName !== fileName);
      expect(others.length).toBe(world.staged!.length - 1);
      return { ...world, staged: inMenu([...others, makeEntry(fileName, text)]) };
    }
    case "live": {
      const read = (files: readonly { fileName: string; text: string }[]) =>
        inMenu(files.map(({ fileName, text }) => makeEntry(fileName, text)));
      return {
        ...world,
        live: read(change.entries),
        staged: change.restage === null ? null : read(change.restage),
        stagedFile: change.restage === null ? null : world.stagedFile,
      };
    }
  }
}

/** Which deployment has the argument, by its digit: "b b*" is b live and staged. */
function whoHas(world: World, text: string): string {
  const names = (entries: readonly BootEntry[], mark: string) =>
    entries
      .filter(({ entry }) => parseCmdline(entry.options).some((each) => each.text === text))
      .map(({ deploymentId }) => `${deploymentId?.[0]}${mark}`);
  return [...names(world.live, ""), ...names(world.staged ?? [], "*")].join(" ");
}

describe("which entry changes", () => {
  const rolledBack = { ...upgraded, ...liveOf(planRollback(upgraded).entries) };
  test.each<[string, World, KargsPlan["slot"], string, boolean | null]>([
    ["the only one", installed, "booted", "a", false],
    ["the booted one, counted", upgraded, "booted", "b", true],
    ["the one that is staged", staged, "staged", "b*", null],
    ["the one rolled back to, counted", rolledBack, "rollback", "a", true],
    ["one that is downloaded follows", downloaded, "booted", "a a* b*", false],
  ])("%s", (_, world, slot, who, isCounted) => {
    const plan = planKargs(world, append("x=1"));
    expect(plan.slot).toBe(slot);
    expect(plan.after).toBe(`${plan.before} x=1`);
    expect(plan.change.kind === "live" ? plan.change.isCounted : null).toBe(isCounted);
    const after = afterKargs(world, plan);
    expect(whoHas(after, "x=1").split(" ").sort().join(" ")).toBe(who);
    expect(after.live.length).toBe(world.live.length);
    expect(after.live.map(({ deploymentId }) => deploymentId)).toEqual(
      world.live.map(({ deploymentId }) => deploymentId),
    );
    expect(after.staged?.map(({ fileName }) => fileName)).toEqual(
      world.staged?.map(({ fileName }) => fileName),
    );
  });

  function liveOf(files: readonly { fileName: string; text: string }[]): Pick<World, "live"> {
    return { live: inMenu(files.map(({ fileName, text }) => makeEntry(fileName, text))) };
  }
});

test("it boots counted, under its name, and the other one does not", () => {
  const { change } = planKargs(upgraded, append("x=1"));
  const names = change.kind === "live" ? change.entries.map(({ fileName }) => fileName) : [];
  expect(names).toEqual(["bootc_fedora-b-1+3.conf", "bootc_fedora-a-0.conf"]);
});

test("changed while on trial: it keeps its name and is tried anew, so this start is not judged any more", () => {
  const assessment: World["assessment"] = {
    startedId: idOf("b"),
    count: { kind: "entry-name", entryId: "bootc_odd-name", counter: { left: 2, done: 1 } },
  };
  const live = upgraded.live.map((entry) =>
    entry.deploymentId === idOf("b") ? makeEntry("bootc_odd-name+2-1.conf", entry.text) : entry,
  );
  const world = { ...upgraded, live, assessment };
  expect(findTrialEntry(world)?.deploymentId).toBe(idOf("b"));
  const after = afterKargs(world, planKargs(world, append("x=1")));
  expect(after.live.map(({ fileName }) => fileName)).toEqual([
    "bootc_odd-name+3.conf",
    "bootc_fedora-a-0.conf",
  ]);
  expect(findTrialEntry(after)).toBeNull();
});

test.each<[string, Partial<World>, boolean]>([
  ["a loader that counts nothing", { layout: { ...SYSTEMD_LAYOUT, counting: "none" } }, false],
  ["GRUB", { layout: { ...SYSTEMD_LAYOUT, counting: "grubenv" } }, true],
  [
    "GRUB while this start is on trial",
    {
      layout: { ...SYSTEMD_LAYOUT, counting: "grubenv" },
      assessment: {
        startedId: idOf("b"),
        count: { kind: "grubenv", blessed: false, fallback: false },
      },
    },
    false,
  ],
])("%s", (_, changes, isCounted) => {
  const { change } = planKargs({ ...upgraded, ...changes }, append("x=1"));
  expect(change).toMatchObject({ kind: "live", isCounted });
});

test("what can be fallen back to only after all tries is nothing to fall back to", () => {
  const live = upgraded.live.map((entry) =>
    entry.deploymentId === idOf("a") ? makeEntry(`${entry.name.id}+0-3.conf`, entry.text) : entry,
  );
  const { change } = planKargs({ ...upgraded, live }, append("x=1"));
  expect(change).toMatchObject({ kind: "live", isCounted: false });
});

test("nothing changed: nothing is written", () => {
  for (const world of [installed, staged, downloaded]) {
    const plan = planKargs(world, edit({ appendIfMissing: ["rw"], deleteIfPresent: ["nope"] }));
    expect(plan.change).toEqual({ kind: "nothing" });
    expect(plan.after).toBe(plan.before);
  }
});

test("entries that are not ours stay, first in the menu or not", () => {
  const foreign = foreignEntry();
  const world = { ...upgraded, live: [foreign, ...upgraded.live] };
  const { change } = planKargs(world, append("x"));
  const files = change.kind === "live" ? change.entries : [];
  expect(files).toContainEqual({ fileName: foreign.fileName, text: foreign.text });
});

describe("later updates carry it on", () => {
  const upgrade = (world: World, image = c) =>
    afterStage(world, planStage(world, stageRequest(image)));
  test("from the booted entry", () => {
    const changed = afterKargs(upgraded, planKargs(upgraded, append('x="1 2"')));
    expect(whoHas(upgrade(changed), 'x="1 2"')).toBe("b c* b*");
  });
  test("from a staged one that is replaced, if its image can be read", () => {
    const changed = afterKargs(staged, planKargs(staged, append("x")));
    const request = stageRequest(c, { imageKargs: new Map([[b.id, []]]) });
    expect(whoHas(afterStage(changed, planStage(changed, request)), "x")).toBe("c*");
    expect(whoHas(upgrade(changed), "x")).toBe("");
  });
  test("a rollback leaves each its own", () => {
    const changed = afterKargs(upgraded, planKargs(upgraded, append("x")));
    const files = planRollback(changed).entries;
    const live = inMenu(files.map(({ fileName, text }) => makeEntry(fileName, text)));
    expect(live.map(({ deploymentId }) => deploymentId?.[0])).toEqual(["a", "b"]);
    expect(whoHas({ ...changed, live }, "x")).toBe("b");
  });
  test("the image's own arguments go their way beside it", () => {
    const world = installWorld(makeImage("a", { kargs: parseCmdline("image=1 quiet") }));
    const changed = afterKargs(world, planKargs(world, edit({ append: ["x"], delete: ["quiet"] })));
    const request = stageRequest(makeImage("b", { kargs: parseCmdline("image=2 quiet") }), {
      imageKargs: new Map([[a.id, parseCmdline("image=1 quiet")]]),
    });
    const { cmdline } = planStage(changed, request);
    expect(cmdline).toMatch(/ x image=2$/);
    expect(cmdline).not.toContain("quiet");
  });
});

describe("sources", () => {
  const set = (kargs: string | null) => (current: SourcedOptions) =>
    setSourceOptions(current, "tuned", kargs);
  const sourceValue = (entry: BootEntry | undefined) =>
    entry?.entry.extra.find(([key]) => key === "x-options-source-tuned")?.[1];

  test("survive kargs, staging, shutdown and rollback", () => {
    let world = afterKargs(installed, planKargs(installed, set('a=1 b="x y"')));
    world = afterKargs(world, planKargs(world, append("local")));
    world = afterStage(world, planStage(world, stageRequest(b)));
    expect(sourceValue(world.staged?.[0])).toBe('a=1 b="x y"');
    world = bless(afterBoot(afterShutdown(world)));
    expect(world.live.map(sourceValue)).toEqual(['a=1 b="x y"', 'a=1 b="x y"']);
    const [first] = planRollback(world).entries;
    expect(first?.text).toContain('\nx-options-source-tuned a=1 b="x y"\n');
  });
  test("taking everything back restores the line", () => {
    let world = afterKargs(installed, planKargs(installed, set("a=1")));
    world = afterKargs(world, planKargs(world, set("a=2 c")));
    const { options } = installed.live[0]!.entry;
    expect(world.live[0]?.entry.options).toBe(`${options} a=2 c`);
    expect(planKargs(world, set("a=2 c")).change.kind).toBe("nothing");
    const empty = afterKargs(world, planKargs(world, set("")));
    expect([empty.live[0]?.entry.options, sourceValue(empty.live[0])]).toEqual([options, ""]);
    const gone = afterKargs(world, planKargs(world, set(null)));
    expect([gone.live[0]?.entry.options, sourceValue(gone.live[0])]).toEqual([options, undefined]);
  });
  test("what a source asks for again is there again", () => {
    let world = afterKargs(installed, planKargs(installed, set("a=1")));
    world = afterKargs(world, planKargs(world, edit({ delete: ["a"] })));
    expect(whoHas(world, "a=1")).toBe("");
    expect(sourceValue(world.live[0])).toBe("a=1");
    world = afterKargs(world, planKargs(world, set("a=1")));
    expect(whoHas(world, "a=1")).toBe("a");
  });
  test("a download follows", () => {
    const world = afterKargs(downloaded, planKargs(downloaded, set("a=1")));
    expect([...world.live, ...world.staged!].map(sourceValue)).toEqual(["a=1", "a=1", "a=1"]);
  });
});

describe("refused", () => {
  const uki = (key: "efi" | "uki", options: string) =>
    makeEntry(
      "bootc_fedora-a-1.conf",
      formatEntry({
        title: "t",
        version: "a",
        target: { kind: "efi", key, path: `/EFI/Linux/bootc/bootc_composefs-${a.id}.efi` },
        options,
        machineId: null,
        sortKey: "bootc-fedora-0",
        extra: [],
      }),
    );
  test.each([
    ["efi", ""],
    ["uki", ""],
    ["uki", "quiet"],
  ] as const)("a unified kernel (%s, options %j), with the way out", (key, options) => {
    const world = { ...installed, live: [uki(key, options)] };
    const run = () => planKargs(world, append("x"));
    expect(run).toThrow(UnsupportedError);
    expect(run).toThrow(/sealed in it: put them into .*kargs\.d.* or .* addon/);
  });
  test("but not when the entry has arguments of its own", () => {
    const plan = planKargs({ ...installed, live: [uki("efi", "quiet")] }, append("x"));
    expect(plan.after).toBe("quiet x");
  });
  test("a machine without entries", () => {
    expect(() => findNextEntry({ ...installed, live: [foreignEntry()] })).toThrow(StateError);
    expect(() => findNextEntry({ ...installed, booted: null })).toThrow("not booted via bootc");
  });
  test.each(["live", "staged"] as const)("a menu that cannot be read: %s", (part) => {
    const world: World = { ...staged, unread: [part], problems: ["It is broken"] };
    expect(() => findNextEntry(world)).toThrow("cannot be found out: It is broken");
  });
  test("but not for a staged file that cannot be read", () => {
    const world: World = { ...staged, stagedFile: null, unread: ["staged-file"] };
    expect(planKargs(world, append("x")).slot).toBe("booted");
  });
  test("a line the kernel would cut, unless it gets shorter", () => {
    const long = `x=${"y".repeat(1700)}`;
    expect(() => planKargs(installed, append(long))).toThrow(
      /would have 2\d\d\d bytes, of which the kernel reads 2047/,
    );
    const [entry] = installed.live;
    const text = entry!.text.replace("options ", `options ${long} ${long} `);
    const world = { ...installed, live: [makeEntry(entry!.fileName, text)] };
    const plan = planKargs(world, edit({ delete: [long] }));
    expect(formatCmdline(parseCmdline(plan.after))).toHaveLength(
      plan.before.length - long.length - 1,
    );
  });
});
