// May the running kernel go on with another deployment? And what a shutdown has to do when it is a soft
// reboot (bootc.md 4.15, 4.16; docs/soft-reboot.md). Pure.
//
// A soft reboot must lead where a full one would: same kernel and initramfs (boot digest), same kernel
// arguments, same mount settings, same SELinux policy. Every reason against it is told, not only the first.

import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { World } from "./world.ts";

/** What an image says that the boot entry does not. */
export interface SoftRebootImage {
  /** Text of setup-root-conf.toml; null without one. */
  readonly settings: string | null;
  /** There is a program for switching to. */
  readonly hasInit: boolean;
}

export interface SoftRebootFacts {
  /** This systemd has soft-reboot.target (254). */
  readonly isSupported: boolean;
  /** What this kernel was started with. */
  readonly cmdline: string;
  /** Of a deployment's /etc, or of the running one; null without a policy. Asked only when SELinux is on. */
  readonly selinuxPolicy: ((id: string) => string | null) | null;
  /** Asked late, because it reads the image. */
  readonly image: (id: string) => SoftRebootImage;
  /** Why this machine's /etc cannot be merged into what is staged. Asked last. */
  readonly conflicts: (id: string) => readonly string[];
}

export type SoftRebootPlan =
  | {
      readonly kind: "possible";
      readonly id: string;
      /** For prepare-root: the running kernel's arguments with the deployment's own image in them. */
      readonly cmdline: string;
      /** The deployment's mount settings, as `SoftRebootImage.settings`. */
      readonly settings: string | null;
    }
  | { readonly kind: "refused"; readonly id: string; readonly reasons: readonly string[] };

/** Words that boot loaders add to what the entry says. */
const LOADER_WORDS = ["BOOT_IMAGE", "initrd"];
const SHOWN_ARGUMENTS = 6;

export function planSoftReboot(world: World, facts: SoftRebootFacts, id: string): SoftRebootPlan {
  const { booted } = world;
  if (booted === null) return refuse(id, ["this machine was not started by bootc"]);
  const entry = findEntry(world, id);
  const early = [
    ...describeMachine(world, facts, booted.id, id),
    ...describeState(world, id),
    ...(entry === undefined
      ? ["no boot entry starts it"]
      : describeArguments(world, facts.cmdline, entry)),
  ];
  if (early.length > 0 || entry === undefined) return refuse(id, early);
  const { hasInit, settings } = facts.image(id);
  const late = [
    ...(hasInit ? [] : ["its image has no init to start"]),
    ...(settings === facts.image(booted.id).settings ? [] : [OTHER_SETTINGS]),
    ...facts.conflicts(id),
  ];
  if (late.length > 0) return refuse(id, late);
  return {
    kind: "possible",
    id,
    cmdline: replaceImage(facts.cmdline, entry.cmdline),
    settings,
  };
}

const OTHER_SETTINGS =
  "its setup-root-conf.toml is not the running image's, but both have the same initramfs, which has one of them";

function refuse(id: string, reasons: readonly string[]): SoftRebootPlan {
  return { kind: "refused", id, reasons };
}

function describeMachine(
  { stagedFile }: World,
  { isSupported, selinuxPolicy }: SoftRebootFacts,
  bootedId: string,
  id: string,
): string[] {
  const reasons: string[] = [];
  if (!isSupported) reasons.push("systemd cannot do it (soft-reboot.target came with 254)");
  if (bootedId === id) reasons.push("it is running already");
  if (stagedFile?.id === id && stagedFile.locked) {
    reasons.push('it was only downloaded: "bootc upgrade --from-downloaded" releases it');
  }
  if (selinuxPolicy !== null && selinuxPolicy(id) !== selinuxPolicy(bootedId)) {
    reasons.push("its SELinux policy is another one");
  }
  return reasons;
}

function describeState(world: World, id: string): string[] {
  const state = world.states.find((candidate) => candidate.id === id);
  if (state === undefined || !state.complete) {
    return ["its directory in state/deploy is missing or incomplete"];
  }
  const running = world.states.find((candidate) => candidate.id === world.booted?.id);
  const [own, current] = [state.origin?.bootDigest ?? null, running?.origin?.bootDigest ?? null];
  if (own === null || current === null) {
    const whose = own === null ? "its" : "the running deployment's";
    return [`${whose} origin does not tell which kernel and initramfs it has`];
  }
  return own === current ? [] : ["it has another kernel or initramfs"];
}

/**
 * What the entry says against what the kernel got, less what the boot loader added. Whatever else is there
 * (firmware, a hypervisor) is there in every start, as long as the running deployment's entry is part of it.
 */
function describeArguments(world: World, cmdline: string, entry: BootEntry): string[] {
  if (entry.cmdline === "") return ["its kernel arguments cannot be read"];
  const wanted = listOwnArguments(argumentsOf(entry));
  const running = listOwnArguments(cmdline);
  if (isSame(wanted, running)) return [];
  const bootedEntry = world.live.find(({ deploymentId }) => deploymentId === world.booted?.id);
  const booted = bootedEntry === undefined ? [] : listOwnArguments(argumentsOf(bootedEntry));
  // What is added to a unified kernel is not added to another one, and the other way round.
  const isInForce =
    bootedEntry?.entry.target.kind === entry.entry.target.kind &&
    isSame(intersect(running, booted), booted);
  if (isInForce && isSame(wanted, booted)) return [];
  const others = describeDifference(isInForce ? booted : running, wanted);
  return [`its kernel arguments are others (${others})`];
}

/** Those of addons come last. One that Secure Boot refused is then missing in what runs: better no soft reboot. */
export function argumentsOf({ cmdline, addonArguments = "" }: BootEntry): string {
  return addonArguments === "" ? cmdline : `${cmdline} ${addonArguments}`;
}

/** Words without the image and the boot loader's own. */
export function listOwnArguments(cmdline: string): string[] {
  return parseCmdline(cmdline)
    .filter(({ key }) => !isImageKey(key) && !LOADER_WORDS.includes(key))
    .map(({ key, text, value }) => (value === null ? text : `${key}=${value}`));
}

function isImageKey(key: string): boolean {
  return key === "composefs" || key === "composefs.digest";
}

/** Those words of `all` that `some` has as well, in their order. */
function intersect(all: readonly string[], some: readonly string[]): string[] {
  return all.filter((word) => some.includes(word));
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((word, index) => word === b[index]);
}

function describeDifference(before: readonly string[], after: readonly string[]): string {
  const words = [
    ...after.filter((word) => !before.includes(word)).map((word) => `+${word}`),
    ...before.filter((word) => !after.includes(word)).map((word) => `-${word}`),
  ];
  if (words.length === 0) return "in another order or number";
  const more = words.length - SHOWN_ARGUMENTS;
  return `${words.slice(0, SHOWN_ARGUMENTS).join(" ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** The arguments `running` with the image that `target` names instead of their own. */
export function replaceImage(running: string, target: string): string {
  const kept = parseCmdline(running).filter(({ key }) => !isImageKey(key));
  return formatCmdline([...kept, ...parseCmdline(target).filter(({ key }) => isImageKey(key))]);
}

function findEntry(world: World, id: string): BootEntry | undefined {
  const isOf = ({ deploymentId }: BootEntry) => deploymentId === id;
  const staged = world.stagedFile?.id === id ? world.staged?.find(isOf) : undefined;
  return staged ?? world.live.find(isOf);
}

/** What is mounted on /run/nextroot; `id` is null when it is none of ours. */
export interface NextRoot {
  readonly id: string | null;
}

/** The systemd job that stops everything, if there is one. */
export type Shutdown = "none" | "soft-reboot" | "other";

export interface ShutdownPlan {
  /** Merge /etc into the staged deployment and make it the default. */
  readonly finalize: boolean;
  /** What is mounted for systemd to go on with, after finalizing; null: as it is. */
  readonly mount: string | null;
}

/**
 * What the finalize unit does when it is stopped. A soft reboot goes where it was prepared to go, else it
 * starts what runs once more; what is staged waits for it, or for a full reboot. Finalizing puts a new /etc
 * in the staged deployment's place, so a root that was mounted before has to be mounted again.
 */
export function planShutdown(
  world: World,
  shutdown: Shutdown,
  prepared: NextRoot | null,
): ShutdownPlan {
  const { stagedFile } = world;
  const bootedId = world.booted?.id ?? null;
  const isPrepared = stagedFile !== null && prepared?.id === stagedFile.id;
  const intoStaged = isPrepared && !stagedFile.locked;
  switch (shutdown) {
    case "other":
      return { finalize: true, mount: null };
    case "none":
      return { finalize: true, mount: intoStaged ? stagedFile.id : null };
    case "soft-reboot":
      if (intoStaged) return { finalize: true, mount: stagedFile.id };
      // Held back since it was prepared, or given up: then its /etc is the image's only, or it is going away.
      return { finalize: false, mount: isKept(world, prepared) && !isPrepared ? null : bootedId };
  }
}

/** Whether what is mounted is somebody else's, or a deployment that boots by itself, too. */
function isKept(world: World, prepared: NextRoot | null): boolean {
  if (prepared === null || prepared.id === null) return prepared !== null;
  const { id } = prepared;
  return (
    world.live.some(({ deploymentId }) => deploymentId === id) &&
    world.states.some((state) => state.id === id && state.complete)
  );
}
