import { expect, test } from "vitest";
import { idOf, installWorld, makeEntry, makeImage } from "../../test/support/small-world.ts";
import { parseOrigin } from "./origin.ts";
import {
  planShutdown,
  planSoftReboot,
  type SoftRebootFacts,
  type SoftRebootImage,
} from "./soft-reboot-plan.ts";
import type { World } from "./world.ts";

const [A, B] = [idOf("a"), idOf("b")];
const OPTIONS = "root=UUID=1 rw quiet";
const KERNEL = "k".repeat(8);

function entry(id: string, options: string, name = `bootc_os-${id[0]}-1.conf`) {
  const linux = `/EFI/Linux/bootc_composefs-${id}/vmlinuz`;
  return makeEntry(name, `version 1\nlinux ${linux}\noptions ${options}\n`);
}

function state(id: string, digest: string | null, complete = true) {
  const boot = digest === null ? "" : `[boot]\ndigest = ${digest}\n`;
  return { id, origin: parseOrigin(boot, "origin"), complete };
}

/** A runs, B is staged; both have the same kernel. */
const WORLD: World = {
  ...installWorld(makeImage("a")),
  live: [entry(A, `${OPTIONS} composefs=${A}`)],
  staged: [entry(B, `${OPTIONS} composefs=${B}`)],
  stagedFile: { id: B, locked: false },
  states: [state(A, KERNEL), state(B, KERNEL)],
};
const IMAGE: SoftRebootImage = { settings: null, hasInit: true };
const FACTS: SoftRebootFacts = {
  isSupported: true,
  cmdline: `${OPTIONS} composefs=${A}`,
  selinuxPolicy: null,
  image: () => IMAGE,
  conflicts: () => [],
};

function stagedWith(options: string): World {
  return { ...WORLD, staged: [entry(B, options)] };
}

test("equal kernel, arguments and settings: the running arguments with the other image", () => {
  expect(planSoftReboot(WORLD, FACTS, B)).toEqual({
    kind: "possible",
    id: B,
    cmdline: `${OPTIONS} composefs=${B}`,
    settings: null,
  });
});

test("the target's own settings are the ones to mount it with", () => {
  const facts = { ...FACTS, image: () => ({ ...IMAGE, settings: "[etc]\n" }) };
  expect(planSoftReboot(WORLD, facts, B)).toMatchObject({ settings: "[etc]\n" });
});

test.each([
  ["fs-verity becomes optional", `${OPTIONS} composefs=?${B}`, FACTS.cmdline, `composefs=?${B}`],
  [
    "both were optional",
    `${OPTIONS} composefs=?${B}`,
    `${OPTIONS} composefs=?${A}`,
    `composefs=?${B}`,
  ],
  [
    "the longer key",
    `${OPTIONS} composefs.digest=v1-sha512-12:${B}`,
    FACTS.cmdline,
    `composefs.digest=v1-sha512-12:${B}`,
  ],
])(
  "%s: the image's argument is no difference, and stays as it is written",
  (_, options, cmdline, karg) => {
    const plan = planSoftReboot(stagedWith(options), { ...FACTS, cmdline }, B);
    expect(plan).toMatchObject({ kind: "possible", cmdline: `${OPTIONS} ${karg}` });
  },
);

test.each([
  ["GRUB's word", `BOOT_IMAGE=/boot/vmlinuz ${FACTS.cmdline}`],
  ["systemd-boot's word", `initrd=\\EFI\\initrd ${FACTS.cmdline}`],
  // Whatever a hypervisor or firmware adds, it adds at the next start as well.
  ["somebody else's", `${FACTS.cmdline} systemd.wants=x.service`],
])("%s on the running command line is no difference", (_, cmdline) => {
  expect(planSoftReboot(WORLD, { ...FACTS, cmdline }, B).kind).toBe("possible");
});

test("what a menu's editor added is not what the entry would start with", () => {
  const world = { ...WORLD, live: [entry(A, `root=UUID=1 rw composefs=${A}`)] };
  const plan = planSoftReboot(
    world,
    { ...FACTS, cmdline: `root=UUID=1 rw single composefs=${A}` },
    B,
  );
  expect(plan).toMatchObject({ reasons: ["its kernel arguments are others (+quiet)"] });
});

test("arguments that were edited since the start count as they were at the start", () => {
  const world = {
    ...stagedWith(`${OPTIONS} new=1 composefs=${B}`),
    live: [entry(A, `${OPTIONS} new=1 composefs=${A}`)],
  };
  expect(planSoftReboot(world, FACTS, B)).toMatchObject({
    reasons: ["its kernel arguments are others (+new=1)"],
  });
});

test.each<[string, Partial<World>, Partial<SoftRebootFacts>, RegExp]>([
  ["no soft-reboot.target", {}, { isSupported: false }, /systemd cannot do it/],
  ["it runs", { booted: { id: B, verityOptional: false } }, {}, /running already/],
  ["download only", { stagedFile: { id: B, locked: true } }, {}, /only downloaded/],
  ["no entry", { staged: null, stagedFile: null }, {}, /no boot entry starts it/],
  ["no state", { states: [state(A, KERNEL)] }, {}, /missing or incomplete/],
  [
    "half a state",
    { states: [state(A, KERNEL), state(B, KERNEL, false)] },
    {},
    /missing or incomplete/,
  ],
  [
    "another kernel",
    { states: [state(A, KERNEL), state(B, "x")] },
    {},
    /another kernel or initramfs/,
  ],
  [
    "kernel unknown",
    { states: [state(A, KERNEL), state(B, null)] },
    {},
    /^its origin does not tell/,
  ],
  [
    "own kernel unknown",
    { states: [state(A, null), state(B, KERNEL)] },
    {},
    /^the running deployment's origin/,
  ],
  ["not booted by us", { booted: null }, {}, /not started by bootc/],
  ["another policy", {}, { selinuxPolicy: (id) => id }, /SELinux policy is another one/],
  [
    "policy on one side only",
    {},
    { selinuxPolicy: (id) => (id === A ? id : null) },
    /SELinux policy/,
  ],
  ["no init", {}, { image: () => ({ ...IMAGE, hasInit: false }) }, /no init/],
  ["other settings", {}, { image: (id) => ({ ...IMAGE, settings: id }) }, /setup-root-conf\.toml/],
  ["a conflict", {}, { conflicts: () => ["'etc/x' is now a file"] }, /^'etc\/x' is now a file$/],
])("refused: %s", (_, world, facts, reason) => {
  const plan = planSoftReboot({ ...WORLD, ...world }, { ...FACTS, ...facts }, B);
  expect(plan).toMatchObject({ kind: "refused", id: B, reasons: [expect.stringMatching(reason)] });
});

test.each([
  ["more", `${OPTIONS} a=1 b composefs=${B}`, "+a=1 +b"],
  ["less", `root=UUID=1 rw composefs=${B}`, "-quiet"],
  ["another value", `root=UUID=2 rw quiet composefs=${B}`, "+root=UUID=2 -root=UUID=1"],
  ["another order", `rw root=UUID=1 quiet composefs=${B}`, "in another order or number"],
  ["many", `${OPTIONS} a b c d e f g h composefs=${B}`, "+a +b +c +d +e +f and 2 more"],
])("arguments: %s", (_, options, text) => {
  expect(planSoftReboot(stagedWith(options), FACTS, B)).toMatchObject({
    reasons: [`its kernel arguments are others (${text})`],
  });
});

test("unified kernels: their own arguments count, and nothing may be added beside them", () => {
  const text = `version 1\nuki /EFI/Linux/bootc/bootc_composefs-${B}.efi\n`;
  const uki = (cmdline: string) => ({ ...makeEntry("bootc_os-b-1.conf", text), cmdline });
  const plan = (cmdline: string, running = FACTS.cmdline) =>
    planSoftReboot({ ...WORLD, staged: [uki(cmdline)] }, { ...FACTS, cmdline: running }, B);
  expect(plan(`${OPTIONS} composefs=${B}`)).toMatchObject({
    kind: "possible",
    cmdline: `${OPTIONS} composefs=${B}`,
  });
  expect(plan(`${OPTIONS} composefs=${B}`, `${FACTS.cmdline} from.addon`)).toMatchObject({
    reasons: ["its kernel arguments are others (-from.addon)"],
  });
  expect(plan("")).toMatchObject({ reasons: ["its kernel arguments cannot be read"] });
});

test("unified kernels: what addons add is known, so equal ones are no difference, and others are one", () => {
  const text = (id: string) => `version 1\nefi /EFI/Linux/bootc/bootc_composefs-${id}.efi\n`;
  const uki = (name: string, id: string, addonArguments: string) => ({
    ...makeEntry(`bootc_os-${name}.conf`, text(id)),
    cmdline: `${OPTIONS} composefs=${id}`,
    addonArguments,
  });
  const plan = (addon: string, running: string) =>
    planSoftReboot(
      { ...WORLD, live: [uki("a-1", A, "one")], staged: [uki("b-1", B, addon)] },
      { ...FACTS, cmdline: `${OPTIONS} composefs=${A} ${running}` },
      B,
    );
  expect(plan("one", "one").kind).toBe("possible");
  // The firmware adds something to every start.
  expect(plan("one", "one smbios").kind).toBe("possible");
  expect(plan("two", "one")).toMatchObject({
    reasons: ["its kernel arguments are others (+two -one)"],
  });
  // Secure Boot did not take the addon.
  expect(plan("one", "")).toMatchObject({ reasons: [expect.stringMatching(/\+one/)] });
});

test("every reason is told at once, and the image is not read for nothing", () => {
  const facts = {
    ...FACTS,
    isSupported: false,
    image: () => {
      throw new Error("read for nothing");
    },
  };
  const world = { ...stagedWith(`composefs=${B}`), states: [state(A, KERNEL), state(B, "x")] };
  expect(planSoftReboot(world, facts, B)).toMatchObject({
    reasons: [/systemd/, /another kernel/, /arguments/].map((text) => expect.stringMatching(text)),
  });
});

test("a rollback is possible as well", () => {
  const world = {
    ...WORLD,
    live: [...WORLD.live, ...WORLD.staged!],
    staged: null,
    stagedFile: null,
  };
  expect(planSoftReboot(world, FACTS, B).kind).toBe("possible");
});

const locked = { ...WORLD, stagedFile: { id: B, locked: true } };
const none = { ...WORLD, staged: null, stagedFile: null };
const live = { ...none, live: [...WORLD.live, ...WORLD.staged!] };
const going = { ...live, states: [state(A, KERNEL), state(B, KERNEL, false)] };
test.each([
  // A full restart: as ever, and nothing is mounted for nothing.
  ["other", WORLD, null, { finalize: true, mount: null }],
  ["other", WORLD, { id: B }, { finalize: true, mount: null }],
  // The unit was stopped by hand: what was prepared has to see the new /etc.
  ["none", WORLD, null, { finalize: true, mount: null }],
  ["none", WORLD, { id: B }, { finalize: true, mount: B }],
  ["none", WORLD, { id: A }, { finalize: true, mount: null }],
  ["soft-reboot", WORLD, { id: B }, { finalize: true, mount: B }],
  // Nothing was prepared: what runs starts once more, and what is staged waits.
  ["soft-reboot", WORLD, null, { finalize: false, mount: A }],
  ["soft-reboot", none, null, { finalize: false, mount: A }],
  // Prepared for a rollback, or by somebody else.
  ["soft-reboot", live, { id: B }, { finalize: false, mount: null }],
  ["soft-reboot", WORLD, { id: null }, { finalize: false, mount: null }],
  // Given up after it was prepared, by a verb that was killed before it took that back.
  ["soft-reboot", none, { id: B }, { finalize: false, mount: A }],
  ["soft-reboot", going, { id: B }, { finalize: false, mount: A }],
  ["soft-reboot", WORLD, { id: idOf("c") }, { finalize: false, mount: A }],
  // Held back after it was prepared.
  ["soft-reboot", locked, { id: B }, { finalize: false, mount: A }],
] as const)("shutdown for %s", (shutdown, world, prepared, expected) => {
  expect(planShutdown(world, shutdown, prepared)).toEqual(expected);
});
