// Machines with unified kernels, as worlds: staging from one kind of kernel to another, shutdown, trial, rollback,
// collection, deletion. "Sealed" has its arguments in it, "signed" takes those of its entry.

import { describe, expect, test } from "vitest";
import { parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import {
  afterBoot,
  afterCleanup,
  afterRollback,
  afterShutdown,
  afterStage,
  EMPTY_WORLD,
  idOf,
  installWorld,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planCleanup } from "./cleanup-plan.ts";
import { planDelete } from "./delete-plan.ts";
import { planFinalize } from "./finalize-plan.ts";
import { planKargs } from "./kargs-plan.ts";
import type { GlobalAddon, UnifiedImage } from "./kernel-plan.ts";
import { planRollback } from "./rollback-plan.ts";
import { type NewImage, planStage, type StageRequest } from "./stage-plan.ts";
import { chooseTrialKargs } from "./trial-kargs.ts";
import type { World } from "./world.ts";

const TRIAL = chooseTrialKargs([], []);
type Kind = "plain" | "sealed" | "signed";
const addon = (name: string): GlobalAddon => ({ name, target: name, isThere: false });

function imageOf(kind: Kind, digit: string, changes: Partial<UnifiedImage> = {}): NewImage {
  if (kind === "plain") return makeImage(digit);
  const sealedCmdline = kind === "sealed" ? `sealed=${digit} composefs=${idOf(digit)}` : null;
  return makeImage(digit, {
    unified: { sealedCmdline, addons: [], globalAddons: [], ...changes },
  });
}

/** What reading the kernels adds to the entries of a world. */
function readKernels(world: World): World {
  const read = (entries: World["live"]) =>
    entries.map((entry) => {
      const digit = entry.deploymentId?.[0] ?? "";
      const isSealed = entry.entry.target.kind === "efi" && entry.entry.options === "";
      return isSealed
        ? {
            ...entry,
            cmdline: `sealed=${digit} composefs=${idOf(digit)}`,
            addonArguments: "from.addon",
          }
        : entry;
    });
  return { ...world, live: read(world.live), staged: world.staged && read(world.staged) };
}

function update(world: World, image: NewImage, changes: Partial<StageRequest> = {}): World {
  const plan = planStage(world, stageRequest(image, changes));
  return readKernels(afterBoot(afterShutdown(readKernels(afterStage(world, plan)))));
}

const clean = (world: World) =>
  afterCleanup(world, planCleanup(world, { tags: [], kernelsOnly: false }));
const optionsOf = (world: World, digit: string) =>
  world.live
    .find(({ deploymentId }) => deploymentId === idOf(digit))
    ?.entry.options.replaceAll(idOf(digit), digit.toUpperCase());
const kinds = ["plain", "sealed", "signed"] as const;

test("the entry of each kind, and what the origin says", () => {
  const world = installWorld(makeImage("a"));
  const sealed = planStage(world, stageRequest(imageOf("sealed", "b")));
  expect(sealed.entries[0]).toEqual({
    fileName: "bootc_fedora-b-1+3.conf",
    text: `title Fedora b b\nversion b\nefi /EFI/Linux/bootc/bootc_composefs-${idOf("b")}.efi\nsort-key bootc-fedora-0\n`,
  });
  expect(sealed.origin).toContain("boot_type=uki");
  expect(sealed).toMatchObject({ cmdline: `sealed=b composefs=${idOf("b")}`, addons: "[]\n" });
  expect(sealed.droppedArguments).toBe("root=UUID=1 rw");
  const signed = planStage(world, stageRequest(imageOf("signed", "b")));
  expect(signed.entries[0]?.text).toContain(
    `\nefi /EFI/Linux/bootc/bootc_composefs-${idOf("b")}.efi\noptions root=UUID=1 rw composefs=${idOf("b")} ${TRIAL}\n`,
  );
  expect(signed.droppedArguments).toBe("");
});

describe.each(kinds.flatMap((from) => kinds.map((to) => [from, to] as const)))(
  "from %s to %s",
  (from, to) => {
    const first = readKernels(installWorld(imageOf(from, "a")));
    const second = update(first, imageOf(to, "b"));
    test("it boots, counted, with the other to fall back to", () => {
      expect(second.booted?.id).toBe(idOf("b"));
      expect(second.live.map(({ deploymentId }) => deploymentId?.[0])).toEqual(["b", "a"]);
      const expected =
        to === "sealed"
          ? ""
          : from === "sealed"
            ? `sealed=a composefs=B ${to === "plain" ? "from.addon " : ""}${TRIAL}`
            : `root=UUID=1 rw composefs=B ${TRIAL}`;
      expect(optionsOf(second, "b")).toBe(expected);
      expect(optionsOf(second, "a")).toBe(optionsOf(first, "a"));
    });

    test("and back", () => {
      const back = readKernels(afterBoot(afterRollback(second, planRollback(second))));
      expect(back.booted?.id).toBe(idOf("a"));
      expect(optionsOf(back, "a")).toBe(optionsOf(first, "a"));
      expect(clean(back)).toEqual(back);
    });

    test("a third one leaves the first without entry: its kernel goes, and no other", () => {
      const third = update(second, imageOf(to, "c"));
      const cleaned = clean(third);
      const names = [...cleaned.kernels, ...cleaned.ukis].join();
      expect(names).not.toContain(idOf("a"));
      for (const digit of ["b", "c"]) expect(names).toContain(idOf(digit));
    });

    test("deleted, its kernel goes", () => {
      const { live } = planDelete(second, idOf("a"));
      const cleaned = clean({ ...second, live: live! });
      expect([...cleaned.kernels, ...cleaned.ukis]).toHaveLength(1);
    });
  },
);

test("the image's own arguments leave with it also when they were sealed", () => {
  const before = parseCmdline("sealed=a quiet");
  const world = readKernels(installWorld(imageOf("sealed", "a")));
  const image = { ...imageOf("signed", "b"), kargs: parseCmdline("quiet loud") };
  const after = update(world, image, { imageKargs: new Map([[idOf("a"), before]]) });
  // "quiet" was never in the kernel, whatever its image says.
  expect(optionsOf(after, "b")).toBe(`composefs=B quiet loud ${TRIAL}`);
});

test("arguments: a sealed entry refuses them with the way out, a signed one takes them", () => {
  const edit = (current: Parameters<Parameters<typeof planKargs>[1]>[0]) => ({
    ...current,
    options: [...current.options, ...parseCmdline("quiet")],
  });
  const sealed = readKernels(installWorld(imageOf("sealed", "a")));
  expect(() => planKargs(sealed, edit)).toThrow(
    /kargs\.d of the image and seal it again, .*addon, "ukify build --stub .* --cmdline/,
  );
  const signed = installWorld(imageOf("signed", "a"));
  expect(planKargs(signed, edit).after).toMatch(/ quiet$/);
});

describe("what else a unified kernel brings", () => {
  const world = readKernels(installWorld(imageOf("sealed", "a", { addons: ["x.addon.efi"] })));
  test("its addons lie beside it, and go with it", () => {
    expect(world.ukis).toEqual([
      `bootc_composefs-${idOf("a")}.efi`,
      `bootc_composefs-${idOf("a")}.efi.extra.d`,
    ]);
    const formerAddons = { present: ["x.addon.efi", "own.addon.efi"], ofImage: ["x.addon.efi"] };
    const plan = planStage(world, stageRequest(imageOf("sealed", "b"), { formerAddons }));
    expect(plan.kernel).toMatchObject({ addons: [{ name: "own.addon.efi", from: "machine" }] });
    const third = update(update(world, imageOf("sealed", "b")), imageOf("sealed", "c"));
    expect(clean(third).ukis.join()).not.toContain(idOf("a"));
  });

  const shared = (digit: string, ...names: string[]) =>
    imageOf("sealed", digit, { globalAddons: names.map(addon) });
  const [x, y] = ["bootc-x.addon.efi", "bootc-y.addon.efi"];
  test("addons for every kernel stay as long as a deployment needs them, and go then", () => {
    const first = readKernels(installWorld(shared("a", x)));
    const second = update(first, shared("b", x, y));
    expect(clean(second).globalAddons).toEqual([x, y]);
    const third = update(clean(second), shared("c", y));
    // The second, to fall back to, needs both.
    expect(clean(third).globalAddons).toEqual([x, y]);
    const fourth = update(clean(third), shared("d", y));
    expect(clean(fourth).globalAddons).toEqual([y]);
    const plain = update(update(clean(fourth), imageOf("plain", "e")), imageOf("plain", "f"));
    expect(clean(plain).globalAddons).toEqual([]);
  });

  test("nobody knows what a deployment needs: they stay, and it is said", () => {
    const first = readKernels(installWorld(shared("a", x)));
    const states = first.states.map(({ addons: _, ...state }) => state);
    const plan = planCleanup(
      { ...first, states, globalAddons: [x, y] },
      { tags: [], kernelsOnly: false },
    );
    expect(plan).toMatchObject({
      globalAddons: [],
      kept: [
        expect.stringMatching(/^All addons stay: nobody knows which ones deployment aaaaaaaaaaaa/),
      ],
    });
  });
});

test("a pinned deployment keeps its kernel, with an entry and without", () => {
  const first = readKernels(installWorld(imageOf("sealed", "a")));
  const pinned = { ...first, pins: new Set([idOf("a")]) };
  const third = update(update(pinned, imageOf("sealed", "b")), imageOf("sealed", "c"));
  expect(third.live.map(({ deploymentId }) => deploymentId?.[0])).toEqual(["c", "b", "a"]);
  expect(clean(third)).toEqual(third);
  const lost = third.live.filter(({ deploymentId }) => deploymentId !== idOf("a"));
  const old = `bootc_composefs-${idOf("d")}.efi`;
  const cleaned = clean({ ...third, live: lost, ukis: [...third.ukis, old] });
  expect(cleaned.ukis).toEqual(third.ukis);
});

test("a staged unified kernel that is gone is not made the default", () => {
  const world = installWorld(makeImage("a"));
  const staged = afterStage(world, planStage(world, stageRequest(imageOf("sealed", "b"))));
  expect(planFinalize(staged).kind).toBe("merge-and-exchange");
  expect(() => planFinalize({ ...staged, ukis: [] })).toThrow(
    `has no kernel in "bootc_composefs-${idOf("b")}"; stage it again`,
  );
  const needs = imageOf("sealed", "b", { globalAddons: [addon("bootc-x.addon.efi")] });
  const other = afterStage(world, planStage(world, stageRequest(needs)));
  expect(planFinalize(other).kind).toBe("merge-and-exchange");
  expect(() => planFinalize({ ...other, globalAddons: [] })).toThrow(
    'needs the addon "bootc-x.addon.efi"; stage it again',
  );
});

test("GRUB: refused before anything is written, and why", () => {
  const grub = { ...EMPTY_WORLD.layout, loader: "grub" as const };
  const world = { ...installWorld(makeImage("a")), layout: grub };
  expect(() => planStage(world, stageRequest(imageOf("sealed", "b")))).toThrow(
    /which this program does not start with GRUB; use an image with vmlinuz/,
  );
  const chained = { ...world, layout: { ...grub, userConfig: "grub2/user.cfg" } };
  expect(() => planStage(chained, stageRequest(makeImage("b")))).toThrow(/"grub2\/user.cfg"/);
});
