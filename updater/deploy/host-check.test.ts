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
import { checkHost } from "./host-check.ts";
import type { DeploymentFacts, HostFacts } from "./host-facts.ts";
import { planMigration } from "./name-migration.ts";
import { planStage } from "./stage-plan.ts";
import { VAR_LINK } from "./state-directory.ts";
import type { World } from "./world.ts";

const [a, b] = [idOf("a"), idOf("b")];
const installed = installWorld(makeImage("a"));
const staged = afterStage(installed, planStage(installed, stageRequest(makeImage("b"))));
const kernelFiles = { kind: "bls" } as never; // only whether there are any counts here

function deployment(digit: string, changes: Partial<DeploymentFacts> = {}): DeploymentFacts {
  const { osRelease, manifestDigest } = makeImage(digit);
  return {
    id: idOf(digit),
    image: { osRelease, bootDigest: digit.repeat(64), kernel: kernelFiles },
    manifestDigests: [manifestDigest],
    varTarget: VAR_LINK,
    ...changes,
  };
}

/** Everything as it should be, of this world. */
function factsOf(world: World, changes: Partial<HostFacts> = {}): HostFacts {
  const digits = world.states.map(({ id }) => id[0]!);
  return {
    world,
    physicalRoot: "/sysroot",
    cmdline: `initrd=\\x root=UUID=1 rw composefs=${a}`,
    hasVar: true,
    deployments: new Map(digits.map((digit) => [idOf(digit), deployment(digit)])),
    kernels: new Map(
      world.kernels.map((name) => [
        name,
        { isComplete: true, bootDigest: name.at(-1)!.repeat(64) },
      ]),
    ),
    ukis: new Map(),
    addons: new Map(),
    brokenRecords: [],
    metadataOnly: false,
    ...changes,
  };
}

const kinds = (facts: HostFacts) => checkHost(facts).map(({ kind }) => kind);
const steps = (facts: HostFacts) => checkHost(facts).flatMap((finding) => finding.steps);
const broken = (changes: Partial<BrokenEntry>): BrokenEntry => ({
  fileName: "bootc_fedora-b-0.conf",
  bytes: new Uint8Array(),
  mentions: [],
  isOurs: true,
  problem: "is empty",
  ...changes,
});

test("nothing is wrong with machines that are all right", () => {
  expect(checkHost(factsOf(installed))).toEqual([]);
  expect(checkHost(factsOf(staged))).toEqual([]);
  const foreign = { ...installed, live: [...installed.live, foreignEntry()] };
  expect(checkHost(factsOf(foreign))).toEqual([]);
  // A deployment that is only waiting for the next collection is none of its business.
  const orphan = {
    ...installed,
    states: [...installed.states, { ...installed.states[0]!, id: b }],
  };
  expect(checkHost(factsOf(orphan, { deployments: factsOf(installed).deployments }))).toEqual([]);
});

describe("a broken entry", () => {
  const world: World = { ...staged, staged: null, stagedFile: null, brokenLive: [broken({})] };
  test("is written again for the deployment that its version names, kernel included", () => {
    const facts = factsOf({ ...world, kernels: installed.kernels });
    expect(kinds(facts)).toEqual(["entry-broken"]);
    const text = installed.live[0]!.text.replaceAll(a, b).replaceAll("a\n", "b\n");
    expect(steps(facts)).toEqual([
      { kind: "copy-kernel", directory: `bootc_composefs-${b}`, from: b },
      {
        kind: "write-entry",
        entry: {
          fileName: "bootc_fedora-b-0.conf",
          text: text.replace("sort-key bootc-fedora-0", "sort-key bootc-fedora-1"),
        },
      },
    ]);
    expect(steps(factsOf(world))).toMatchObject([{ kind: "write-entry" }]);
  });

  test.each<[string, Partial<HostFacts>, Partial<World>]>([
    [
      "its image is not here",
      {
        deployments: new Map([
          [a, deployment("a")],
          [b, deployment("b", { image: null })],
        ]),
      },
      {},
    ],
    [
      "its state is not complete",
      {},
      { states: world.states.map((s) => ({ ...s, complete: s.id !== b })) },
    ],
    [
      "GRUB's menu is somebody's script",
      {},
      { layout: { ...world.layout, loader: "grub", userConfig: "grub2/user.cfg" } },
    ],
    [
      "it could not be read, and nobody lacks an entry",
      {},
      { states: installed.states, brokenLive: [broken({ bytes: null })] },
    ],
  ])("is left to a person when %s", (_, changes, worldChanges) => {
    const facts = factsOf({ ...world, ...worldChanges }, changes);
    const finding = checkHost(facts).find(({ kind }) => kind === "entry-broken");
    expect(finding?.steps).toEqual([]);
  });

  test("is removed when every deployment has one", () => {
    const facts = factsOf({ ...installed, brokenLive: [broken({})] });
    expect(steps(facts)).toEqual([{ kind: "remove-entry", fileName: "bootc_fedora-b-0.conf" }]);
  });

  test("is nobody's business when it is not ours", () => {
    expect(kinds(factsOf({ ...installed, brokenLive: [broken({ isOurs: false })] }))).toEqual([]);
  });
});

test("the running deployment's lost entry gets the arguments that are running, less the loader's", () => {
  const [step] = steps(factsOf({ ...installed, live: [] }));
  // Its kernel's digest is known to no entry, so it is copied (and left as it is when it is there).
  expect(step).toMatchObject({ kind: "write-entry" });
  expect(JSON.stringify(step)).toContain(`options root=UUID=1 rw composefs=${a}\\n`);
  expect(JSON.stringify(step)).toContain('"bootc_fedora-a-1.conf"');
});

test("dead and double entries", () => {
  const text = installed.live[0]!.text;
  const dead = makeEntry("bootc_fedora-e-0.conf", text.replaceAll(a, idOf("e")));
  const double = makeEntry("z.conf", text.replace("sort-key bootc-fedora-0", "sort-key z"));
  const facts = factsOf({ ...installed, live: [...installed.live, dead, double] });
  expect(checkHost(facts).map(({ kind, path }) => [kind, path])).toEqual([
    ["entry-dead", "bootc_fedora-e-0.conf"],
    ["entry-duplicate", "z.conf"],
    ["kernel-missing", `bootc_composefs-${idOf("e")}`],
  ]);
});

describe("kernels", () => {
  const [name] = installed.kernels as [string];
  const copy = { kind: "copy-kernel", directory: name, from: a };
  test.each<
    [
      string,
      ReadonlyMap<string, HostFacts["kernels"] extends ReadonlyMap<string, infer K> ? K : never>,
      string,
    ]
  >([
    ["gone", new Map([[name, null]]), "kernel-missing"],
    ["half", new Map([[name, { isComplete: false, bootDigest: null }]]), "kernel-missing"],
    ["others", new Map([[name, { isComplete: true, bootDigest: "0" }]]), "kernel-damaged"],
  ])("%s: copied again", (_, kernels, kind) => {
    expect(kinds(factsOf(installed, { kernels }))).toEqual([kind]);
    expect(steps(factsOf(installed, { kernels }))).toEqual([copy]);
  });

  test("what is in them does not matter to a check of metadata", () => {
    const kernels = new Map([[name, { isComplete: true, bootDigest: null }]]);
    expect(kinds(factsOf(installed, { kernels, metadataOnly: true }))).toEqual([]);
  });
});

describe("origins", () => {
  const [state] = installed.states;
  const only = (changes: object, more: Partial<HostFacts> = {}) =>
    factsOf({ ...installed, states: [{ ...state!, ...changes }] }, more);
  test("lost: written from tag and kernel; where it is from is never guessed", () => {
    const [finding] = checkHost(only({ origin: null }));
    expect(finding).toMatchObject({ kind: "origin-broken" });
    expect(finding?.steps).toEqual([
      {
        kind: "write-origin",
        id: a,
        text: `[boot]\nboot_type=bls\ndigest=${"a".repeat(64)}\n[image]\nmanifest_digest=sha256:${"a".repeat(64)}\n`,
      },
    ]);
  });

  test("nothing known of it: left alone", () => {
    const deployments = new Map([[a, deployment("a", { image: null, manifestDigests: [] })]]);
    expect(steps(only({ origin: null }, { deployments }))).toEqual([]);
  });

  test.each<[string, object, string]>([
    ["no boot digest", { bootDigest: null }, "origin-incomplete"],
    ["no manifest", { manifestDigest: null }, "origin-incomplete"],
    ["another kernel", { bootDigest: "0".repeat(64) }, "origin-wrong"],
  ])("%s: completed", (_, changes, kind) => {
    const facts = only({ origin: { ...state!.origin!, ...changes } });
    expect(kinds(facts)).toEqual([kind]);
    expect(JSON.stringify(steps(facts))).toContain("container-image-reference=");
    expect(JSON.stringify(steps(facts))).toContain(`digest=${"a".repeat(64)}`);
  });

  test("an old record's digest gives way to the tag's", () => {
    const origin = { ...state!.origin!, manifestDigest: "sha256:0" };
    const facts = only({ origin, digestUncertain: true });
    expect(JSON.stringify(steps(facts))).toContain(`sha256:${"a".repeat(64)}`);
  });
});

test("states: the link and the directory of /var can be made, /etc cannot", () => {
  const world = { ...installed, states: [{ ...installed.states[0]!, complete: false }] };
  const deployments = new Map([[a, deployment("a", { varTarget: null })]]);
  expect(steps(factsOf(world, { deployments, hasVar: false }))).toEqual([
    { kind: "make-var" },
    { kind: "link-var", id: a },
  ]);
  expect(checkHost(factsOf(world))).toMatchObject([{ kind: "state-incomplete", steps: [] }]);
});

test.each<[string, World, string]>([
  ["unreadable", { ...staged, stagedFile: null, unread: ["staged-file"] }, "staged-broken"],
  ["never applied", { ...staged, stagedFile: null }, "staged-leftover"],
  ["without a state", { ...staged, states: installed.states }, "staged-unusable"],
])("what is staged is %s: given up", (_, world, kind) => {
  const facts = factsOf(world);
  expect(kinds(facts)).toContain(kind);
  expect(steps(facts)).toContainEqual({ kind: "drop-staged" });
});

test("records that cannot be understood go", () => {
  const path = "/sysroot/state/bootc/boot-failures.json";
  expect(checkHost(factsOf(installed, { brokenRecords: [path] }))).toMatchObject([
    { kind: "record-broken", path, steps: [{ kind: "remove", path }] },
  ]);
});

test("leftovers go", () => {
  const world = { ...installed, leftovers: [".partial-x"], strays: ["loader/entries/.y"] };
  expect(steps(factsOf(world))).toEqual([
    { kind: "remove", path: "/sysroot/state/deploy/.partial-x" },
    { kind: "remove-stray", path: "loader/entries/.y" },
  ]);
});

describe("names from before bootc 1.16", () => {
  const rename = (text: string) => text.replaceAll(`bootc_composefs-${a}`, a);
  const live = installed.live.map(({ fileName, text }) => makeEntry(fileName, rename(text)));
  const world: World = { ...installed, live: [...live, foreignEntry()], kernels: [a] };
  const unified = makeEntry("u.conf", `uki /EFI/Linux/bootc/${a}.efi\n`);

  test("are read as ours, and reported", () => {
    expect(live[0]).toMatchObject({ deploymentId: a, artefact: a });
    expect(unified).toMatchObject({ deploymentId: a, artefact: a });
    const kernels = new Map([[a, { isComplete: true, bootDigest: "a".repeat(64) }]]);
    expect(checkHost(factsOf(world, { kernels }))).toMatchObject([
      { kind: "old-name", path: a, steps: [{ kind: "rename-artefacts" }] },
    ]);
  });

  test("migrate with every entry in the menu, in paths only", () => {
    expect(planMigration(world)).toEqual({
      names: [a],
      entries: [
        { fileName: installed.live[0]!.fileName, text: installed.live[0]!.text },
        { fileName: foreignEntry().fileName, text: foreignEntry().text },
      ],
    });
    const ukis = planMigration({ ...world, live: [unified], kernels: [], ukis: [`${a}.efi`] });
    expect(ukis?.entries[0]?.text).toBe(`uki /EFI/Linux/bootc/bootc_composefs-${a}.efi\n`);
  });

  test("not now: something is staged, or there are none", () => {
    expect(planMigration({ ...world, stagedFile: { id: b, locked: true } })).toBeNull();
    expect(planMigration(installed)).toBeNull();
  });
});
