// Whatever a world looks like: cleaning takes nothing that runs, is staged or pinned, nothing that a live entry
// starts, and a second cleaning finds nothing.

import fc from "fast-check";
import { expect, test } from "vitest";
import {
  afterCleanup,
  idOf,
  installWorld,
  makeEntry,
  makeImage,
} from "../../test/support/small-world.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BrokenEntry } from "../boot/entry-directory.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { World, WorldPart } from "./world.ts";

const base = installWorld(makeImage("a"));
const digits = ["a", "b", "c", "d"] as const;
const digit = fc.constantFrom(...digits);
const kernelOf = (each: string) => `bootc_composefs-${idOf(each)}`;

/** A unified kernel, which is one deployment's; its arguments may name another one. */
const unified: fc.Arbitrary<BootEntry> = fc
  .record({ of: digit, starts: fc.option(digit), n: fc.nat(99) })
  .map(({ of, starts, n }) => ({
    ...makeEntry(
      `bootc_x-${n}.conf`,
      `version ${n}\nefi /EFI/Linux/bootc/${kernelOf(of)}.efi\nsort-key bootc-x-0\n`,
    ),
    cmdline: starts === null ? "" : `composefs=${idOf(starts)}`,
  }));
/** A deployment with its own kernel, another's, or one under an old name. */
const plain: fc.Arbitrary<BootEntry> = fc
  .record({ of: digit, kernel: digit, old: fc.boolean(), n: fc.nat(99) })
  .map(({ of, kernel, old, n }) => {
    const directory = old ? idOf(kernel) : kernelOf(kernel);
    return makeEntry(
      `bootc_x-${n}.conf`,
      `version ${n}\nlinux /EFI/Linux/${directory}/vmlinuz\noptions composefs=${idOf(of)}\n`,
    );
  });
const entry = fc.oneof({ weight: 3, arbitrary: plain }, { weight: 1, arbitrary: unified });
const addonOf = (each: string) => `bootc-${each}.addon.efi`;
const broken: fc.Arbitrary<BrokenEntry> = fc.boolean().map((isOurs) => ({
  ...{ fileName: "b.conf", bytes: new Uint8Array(), mentions: [], isOurs, problem: "broken" },
}));
const parts: readonly WorldPart[] = ["live", "staged", "staged-file", "states", "kernels"];

function seldom<T>(some: fc.Arbitrary<T[]>): fc.Arbitrary<readonly T[]> {
  return fc.oneof({ weight: 5, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: some });
}

const world: fc.Arbitrary<World> = fc
  .record({
    booted: digit,
    live: fc.array(entry, { maxLength: 4 }),
    staged: fc.option(fc.array(entry, { maxLength: 3 })),
    stagedId: fc.option(digit),
    locked: fc.boolean(),
    brokenLive: seldom(fc.array(broken, { maxLength: 1 })),
    brokenStaged: seldom(fc.array(broken, { maxLength: 1 })),
    states: fc.subarray([...digits]),
    pins: fc.subarray([...digits]),
    kernels: fc.subarray(digits.flatMap((each) => [kernelOf(each), idOf(each)])),
    ukis: fc.subarray(
      digits.flatMap((each) => [`${kernelOf(each)}.efi`, `${kernelOf(each)}.efi.extra.d`]),
    ),
    globalAddons: fc.subarray(digits.map(addonOf)),
    recorded: fc.subarray([...digits]),
    unread: seldom(fc.subarray([...parts])),
    isListed: fc.nat(4).map((n) => n > 0),
    knowOrigin: fc.boolean(),
  })
  .map(({ booted, isListed, stagedId, locked, states, pins, knowOrigin, recorded, ...rest }) => ({
    ...base,
    ...rest,
    booted: {
      id: (isListed ? rest.live[0]?.deploymentId : null) ?? idOf(booted),
      verityOptional: false,
    },
    stagedFile: stagedId === null ? null : { id: idOf(stagedId), locked },
    pins: new Set(pins.map(idOf)),
    states: states.map((each) => ({
      ...base.states[0]!,
      id: idOf(each),
      ...(recorded.includes(each) && { addons: [addonOf(each)] }),
      origin: knowOrigin
        ? { ...base.states[0]!.origin!, manifestDigest: `sha256:${each.repeat(64)}` }
        : null,
    })),
    leftovers: [".partial-x"],
    strays: ["loader/entries/.y.partial-000000000000"],
  }));
const tags = digits.map((each) => `localhost/bootc-sha256:${each.repeat(64)}`);

test("nothing that is needed goes, and cleaning twice is cleaning once", () => {
  let [states, kernels, ukis, addons, removedTags] = [0, 0, 0, 0, 0];
  fc.assert(
    fc.property(world, fc.boolean(), (before, kernelsOnly) => {
      const scope = { tags: [...tags, "localhost/other"], kernelsOnly };
      const plan = planCleanup(before, scope);
      states += plan.states.length;
      kernels += plan.kernels.length;
      ukis += plan.ukis.length;
      addons += plan.globalAddons.length;
      removedTags += plan.tags.length;
      const isStaged = (before.staged ?? []).some((e) => e.deploymentId === before.stagedFile?.id);
      const needed = [...before.live, ...(isStaged ? before.staged! : [])];
      for (const { artefact } of needed) {
        expect(plan.kernels).not.toContain(artefact);
        expect(plan.ukis).not.toContain(`${artefact}.efi`);
        expect(plan.ukis).not.toContain(`${artefact}.efi.extra.d`);
      }
      const ids = [
        before.booted!.id,
        ...before.pins,
        ...needed.flatMap((e) => e.deploymentId ?? []),
        ...needed.flatMap((e) => /composefs=([0-9a-f]+)/.exec(e.cmdline)?.[1] ?? []),
      ];
      for (const id of ids) {
        expect(plan.states).not.toContain(id);
        for (const name of before.states.find((each) => each.id === id)?.addons ?? [])
          expect(plan.globalAddons).not.toContain(name);
        if (!kernelsOnly) expect(plan.roots).toContain(id);
        const state = before.states.find((each) => each.id === id);
        if (state?.origin)
          expect(plan.tags).not.toContain(`localhost/bootc-${state.origin.manifestDigest}`);
      }
      if (isStaged) expect(plan).toMatchObject({ stagedEntries: false, stagedFile: false });
      expect(plan.tags).not.toContain("localhost/other");
      expect(plan.strays).toEqual(before.strays);
      const again = planCleanup(afterCleanup(before, plan), { ...scope, tags: [] });
      expect({ ...again, roots: [], kept: [] }).toEqual({
        ...{
          kernels: [],
          ukis: [],
          globalAddons: [],
          strays: [],
          leftovers: [],
          states: [],
          tags: [],
          roots: [],
        },
        ...{ stagedEntries: false, stagedFile: false, kept: [] },
      });
    }),
    { numRuns: 2000 },
  );
  // Of 8000 deployments: it is not that everything is kept.
  expect(Math.min(states, kernels, ukis, addons, removedTags)).toBeGreaterThan(40);
}, 60_000);
