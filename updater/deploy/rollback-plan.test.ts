import { expect, test } from "vitest";
import { idOf, installWorld, makeEntry, makeImage } from "../../test/support/small-world.ts";
import { planRollback } from "./rollback-plan.ts";

const world = installWorld(makeImage("a"));
const entry = (digit: string, version: string, position: number, suffix = "") =>
  makeEntry(
    `bootc_fedora-${version}-${position === 0 ? 1 : 0}${suffix}.conf`,
    `title ${digit}\nversion ${version}\nlinux /EFI/Linux/bootc_composefs-${idOf(digit)}/vmlinuz\noptions composefs=${idOf(digit)}\nsort-key bootc-fedora-${position}\n`,
  );

test("one deployment: no rollback", () => {
  expect(() => planRollback(world)).toThrow("No rollback available");
});

test("the second boots first; what is staged is named as lost", () => {
  const two = {
    ...world,
    booted: { id: idOf("b"), verityOptional: false },
    live: [entry("b", "2", 0, "+1-2"), entry("a", "1", 1)],
    stagedFile: { id: idOf("c"), locked: false },
  };
  const plan = planRollback(two);
  expect(plan).toMatchObject({ id: idOf("a"), isRevert: false, discardsStaged: idOf("c") });
  expect(plan.entries.map((file) => file.fileName)).toEqual([
    "bootc_bootc-1-1.conf",
    "bootc_bootc-2-0+1-2.conf",
  ]);
});

test("three deployments of one version keep three names and their order", () => {
  const three = {
    ...world,
    live: [entry("a", "1", 0), entry("b", "1", 1), entry("c", "1", 2)],
  };
  const plan = planRollback(three);
  expect(plan.entries.map((file) => file.fileName)).toEqual([
    "bootc_bootc-1-1.conf",
    "bootc_bootc-1-0.conf",
    "bootc_bootc-1.2-0.conf",
  ]);
  expect(plan.entries.map((file) => /sort-key (.*)/.exec(file.text)?.[1])).toEqual([
    "bootc-bootc-0",
    "bootc-bootc-1",
    "bootc-bootc-2",
  ]);
});
