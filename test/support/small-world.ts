// Worlds without a disk: what the planners read, and what their plans do to it. Used to run whole
// histories (install, stage, shut down, boot, roll back, clean) as pure functions.

import { formatEntry } from "../../shared/format/bls/entry.ts";
import { formatEntryName } from "../../shared/format/bls/entry-name.ts";
import { parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import type { BootAssessment } from "../../updater/boot/assessment.ts";
import { type BootEntry, parseBootEntry, sortEntries } from "../../updater/boot/boot-entry.ts";
import { type BootLayout, makeEspLayout } from "../../updater/boot/boot-layout.ts";
import { parseAddonRecord } from "../../updater/deploy/addon-record.ts";
import { planAssessment } from "../../updater/deploy/assess-plan.ts";
import type { BootRecords } from "../../updater/deploy/boot-record.ts";
import type { CleanupPlan } from "../../updater/deploy/cleanup-plan.ts";
import type { EntryFile } from "../../updater/deploy/entry-exchange.ts";
import { planFinalize } from "../../updater/deploy/finalize-plan.ts";
import type { KernelPlan } from "../../updater/deploy/kernel-plan.ts";
import { parseOrigin } from "../../updater/deploy/origin.ts";
import type { RollbackPlan } from "../../updater/deploy/rollback-plan.ts";
import type { NewImage, StagePlan, StageRequest } from "../../updater/deploy/stage-plan.ts";
import { parseStagedFile } from "../../updater/deploy/staged-file.ts";
import type { World } from "../../updater/deploy/world.ts";
import { type InstallPlan, planInstall } from "../../updater/install/install-plan.ts";

/** A deployment id made of one hex digit. */
export function idOf(digit: string): string {
  return digit.repeat(128);
}

/** Image "a" has version "a", kernel "kernel" and manifest sha256:aaa… unless told otherwise. */
export function makeImage(digit: string, changes: Partial<NewImage> = {}): NewImage {
  return {
    id: idOf(digit),
    manifestDigest: `sha256:${digit.repeat(64)}`,
    originReference: "ostree-unverified-image:oci:/images/os",
    osRelease: new Map([
      ["ID", "fedora"],
      ["VERSION_ID", digit],
      ["PRETTY_NAME", `Fedora ${digit}`],
    ]),
    kargs: [],
    bootDigest: digit.repeat(64),
    ...changes,
  };
}

export function makeEntry(fileName: string, text: string): BootEntry {
  return parseBootEntry(fileName, text);
}

function readEntries(files: readonly EntryFile[]): BootEntry[] {
  return sortEntries(
    files.map(({ fileName, text }) => makeEntry(fileName, text)),
    "systemd",
  );
}

export const SYSTEMD_LAYOUT = makeEspLayout("systemd", "/esp");

export const UNASSESSED: BootAssessment = { startedId: null, count: { kind: "uncounted" } };

export const EMPTY_WORLD: World = {
  booted: null,
  bootloader: "systemd",
  layout: SYSTEMD_LAYOUT,
  assessment: UNASSESSED,
  failures: [],
  live: [],
  staged: null,
  brokenLive: [],
  brokenStaged: [],
  stagedFile: null,
  states: [],
  pins: new Set(),
  leftovers: [],
  kernels: [],
  ukis: [],
  globalAddons: [],
  strays: [],
  unread: [],
  problems: [],
};

/** The world after installing, booted into what was installed. */
export function installWorld(image: NewImage, layout: BootLayout = SYSTEMD_LAYOUT): World {
  const plan: InstallPlan = planInstall({
    image,
    kargs: parseCmdline("root=UUID=1 rw"),
    kargDeletes: [],
    kernels: [],
    layout,
    verityOptional: false,
  });
  return {
    ...EMPTY_WORLD,
    bootloader: layout.loader,
    layout,
    booted: { id: image.id, verityOptional: false },
    live: readEntries([plan.entry]),
    states: [stateOf(plan)],
    ...afterKernel(EMPTY_WORLD, plan.kernel),
  };
}

/** The boot partition with a kernel that a plan writes. */
function afterKernel(
  world: World,
  kernel: KernelPlan,
): Pick<World, "kernels" | "ukis" | "globalAddons"> {
  const { kernels, ukis, globalAddons } = world;
  const join = (names: readonly string[], more: readonly string[]) =>
    [...new Set([...names, ...more])].sort();
  if (kernel.kind === "bls") {
    return { kernels: join(kernels, [kernel.directory]), ukis, globalAddons };
  }
  const addons = kernel.addons.length === 0 ? [] : [`${kernel.name}.efi.extra.d`];
  return {
    kernels,
    ukis: join(ukis, [`${kernel.name}.efi`, ...addons]),
    globalAddons: join(
      globalAddons,
      kernel.globalAddons.map(({ target }) => target),
    ),
  };
}

function stateOf(plan: StagePlan | InstallPlan): World["states"][number] {
  return {
    id: plan.id,
    origin: parseOrigin(plan.origin, "origin"),
    complete: true,
    ...(plan.addons === null ? {} : { addons: parseAddonRecord(plan.addons, "addons") }),
  };
}

export function stageRequest(image: NewImage, changes: Partial<StageRequest> = {}): StageRequest {
  return {
    image,
    imageKargs: new Map(),
    kernels: [],
    verityOptional: false,
    locked: false,
    ...changes,
  };
}

export function afterStage(world: World, plan: StagePlan): World {
  const others = world.states.filter((state) => state.id !== plan.id);
  return {
    ...world,
    staged: readEntries(plan.entries),
    stagedFile: parseStagedFile(plan.stagedFile, "staged"),
    states: [...others, stateOf(plan)],
    ...afterKernel(world, plan.kernel),
    failures: plan.failures ?? world.failures,
  };
}

/** Shutdown: finalizes when the plan says so. */
export function afterShutdown(world: World): World {
  const plan = planFinalize(world);
  if (plan.kind === "nothing") return world;
  const live = plan.kind === "cleanup" ? world.live : readEntries(plan.entries);
  return { ...world, live, staged: null, stagedFile: null };
}

/** /run is gone, the first entry of the menu runs, and its start is good. */
export function afterBoot(world: World): World {
  return afterAssessment(afterStart(world), true);
}

/** /run is gone; systemd-boot starts the first of our entries, and counts it down before. */
export function afterStart(world: World): World {
  const first = world.live.find((entry) => entry.deploymentId !== null)!;
  const { counter, id: entryId } = first.name;
  const booted = { id: first.deploymentId!, verityOptional: false };
  const away = { ...world, stagedFile: null, booted };
  if (counter === null) {
    return { ...away, assessment: { ...UNASSESSED, startedId: booted.id } };
  }
  const tried = { left: Math.max(counter.left - 1, 0), done: counter.done + 1 };
  const fileName = formatEntryName({ id: entryId, counter: tried });
  const others = world.live.filter((entry) => entry !== first);
  return {
    ...away,
    live: readEntries([{ fileName, text: first.text }, ...others]),
    assessment: {
      startedId: booted.id,
      count: { kind: "entry-name", entryId, counter: tried },
    },
  };
}

export const NO_RECORDS: BootRecords = {
  refused: null,
  failed: null,
  reached: [],
  watchdog: false,
};

/** As `bootc internals assess-boot good` or `review` leave it. */
export function afterAssessment(world: World, good: boolean, records = NO_RECORDS): World {
  const { bless, failures } = planAssessment(world, good, records, "2026-01-01T00:00:00.000Z");
  const live = world.live.filter((entry) => entry.fileName !== bless?.from);
  return {
    ...world,
    failures: failures ?? world.failures,
    live: bless === null ? live : readEntries([...live, bless.to]),
  };
}

export function afterRollback(world: World, plan: RollbackPlan): World {
  return { ...world, live: readEntries(plan.entries), staged: null, stagedFile: null };
}

export function afterCleanup(world: World, plan: CleanupPlan): World {
  return {
    ...world,
    staged: plan.stagedEntries ? null : world.staged,
    kernels: world.kernels.filter((name) => !plan.kernels.includes(name)),
    ukis: world.ukis.filter((name) => !plan.ukis.includes(name)),
    globalAddons: world.globalAddons.filter((name) => !plan.globalAddons.includes(name)),
    strays: world.strays.filter((name) => !plan.strays.includes(name)),
    states: world.states.filter((state) => !plan.states.includes(state.id)),
    leftovers: world.leftovers.filter((name) => !plan.leftovers.includes(name)),
    stagedFile: plan.stagedFile ? null : world.stagedFile,
  };
}

/** An entry that is not ours, as Debian's kernel-install would write it. */
export function foreignEntry(): BootEntry {
  return makeEntry(
    "debian-6.12.conf",
    formatEntry({
      title: "Debian",
      version: "6.12",
      target: { kind: "linux", linux: "/debian/6.12/linux", initrds: [] },
      options: "root=UUID=2",
      machineId: null,
      sortKey: "debian",
      extra: [],
    }),
  );
}

/** The entry's deployment runs, and the loader counted this start under that name. */
export function bootCounted(world: World, entryId: string, left: number, done: number): World {
  const entry = world.live.find((candidate) => candidate.name.id === entryId);
  const id = entry?.deploymentId ?? null;
  if (id === null) throw new Error(`no deployment has the entry ${entryId}`);
  const counter = { left, done };
  return {
    ...world,
    booted: { id, verityOptional: false },
    live: world.live.map((each) =>
      each === entry && each.name.counter?.done !== done
        ? makeEntry(formatEntryName({ id: entryId, counter }), each.text)
        : each,
    ),
    assessment: {
      startedId: id,
      count: { kind: "entry-name", entryId, counter },
    },
  };
}
