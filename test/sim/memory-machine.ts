// A machine without a disk: files by path, deployments, and what runs. The steps of real transactions change
// it one by one, so that it can be interrupted between any two. Nothing here is ever changed in place.

import type { Step, Transaction } from "../../shared/txn/plan.ts";
import type { BootAssessment } from "../../updater/boot/assessment.ts";
import { type BootEntry, parseBootEntry, sortEntries } from "../../updater/boot/boot-entry.ts";
import {
  type BootDirectory,
  type BootLayout,
  borrowBootDirectory,
} from "../../updater/boot/boot-layout.ts";
import { separateTwins } from "../../updater/boot/entry-directory.ts";
import type { System } from "../../updater/boot/system.ts";
import { dropLostRetries, parseFailures } from "../../updater/deploy/boot-failure.ts";
import type { BootRecords } from "../../updater/deploy/boot-record.ts";
import { formatOrigin, parseOrigin } from "../../updater/deploy/origin.ts";
import { assignSlots } from "../../updater/deploy/slots.ts";
import type { NewImage } from "../../updater/deploy/stage-plan.ts";
import { parseStagedFile } from "../../updater/deploy/staged-file.ts";
import { markFailed } from "../../updater/deploy/trial.ts";
import { describeStaged, type World } from "../../updater/deploy/world.ts";
import { parseOriginReference } from "../../updater/image/reference.ts";
import { installWorld, makeImage, SYSTEMD_LAYOUT, UNASSESSED } from "../support/small-world.ts";
import { GRUB_LAYOUT, installGrub, markGivenUp, readGrubCount } from "./grub-model.ts";

export const ESP = "/esp";
export const LIVE = `${ESP}/loader/entries/`;
export const STAGED = `${ESP}/loader/entries.staged/`;
const STAGED_FILE = "/run/composefs/staged-deployment";
const FAILURES_FILE = "/sysroot/state/bootc/boot-failures.json";

export const SYSTEM = { physicalRoot: "/sysroot", runDirectory: "/run", root: "/" } as System;

export type Loader = "systemd" | "grub";
const LAYOUTS: Readonly<Record<Loader, BootLayout>> = {
  systemd: { ...SYSTEMD_LAYOUT, ukiPath: ESP },
  grub: GRUB_LAYOUT,
};

export function bootOf({ loader }: Pick<MemoryMachine, "loader">): BootDirectory {
  return borrowBootDirectory(ESP, LAYOUTS[loader]);
}

/** Where the kernel directories are; ends with "/". */
export function kernelsOf({ loader }: Pick<MemoryMachine, "loader">): string {
  return loader === "grub" ? `${ESP}/` : `${ESP}/EFI/Linux/`;
}

/** Image "e" has the kernel of "a", as a soft reboot needs it. Each is at a place of its own. */
export function imageOf(digit: string): NewImage {
  return makeImage(digit, {
    bootDigest: (digit === "e" ? "a" : digit).repeat(64),
    originReference: `ostree-unverified-image:oci:/images/${digit}`,
  });
}

export interface MemoryMachine {
  readonly loader: Loader;
  /** Directories end with "/" and have no text. */
  readonly files: ReadonlyMap<string, string>;
  /** Deployments with a complete state directory. */
  readonly states: ReadonlySet<string>;
  readonly pins: ReadonlySet<string>;
  /** Boot images in the repository. */
  readonly images: ReadonlySet<string>;
  readonly booted: string;
  /** The deployment the kernel was started for; after a soft reboot another one runs. */
  readonly started: string;
  /** What the kernel was told. */
  readonly cmdline: string;
  /** What is mounted on /run/nextroot. */
  readonly nextRoot: string | null;
  /** Name of the entry's file when systemd-boot counted this start. */
  readonly countName: string | null;
}

/** Deployment "a" as installed, and running. */
export function installMachine(loader: Loader): MemoryMachine {
  const image = imageOf("a");
  const world = installWorld(image, LAYOUTS[loader]);
  const files = new Map<string, string>();
  const kernels = kernelsOf({ loader });
  const kernel = `${kernels}${world.kernels[0]}/`;
  const directories = loader === "grub" ? [] : [`${ESP}/EFI/`, kernels];
  for (const path of [`${ESP}/loader/`, LIVE, ...directories, kernel]) files.set(path, "");
  for (const part of ["vmlinuz", "initrd"]) files.set(`${kernel}${part}`, image.bootDigest);
  for (const { fileName, text } of world.live) files.set(`${LIVE}${fileName}`, text);
  if (loader === "grub") installGrub(files, LIVE);
  const id = image.id;
  const own = new Set([id]);
  const running = { booted: id, started: id, cmdline: world.live[0]!.entry.options };
  const rest = { nextRoot: null, countName: null, pins: new Set<string>() };
  return { loader, files, states: own, images: own, ...running, ...rest };
}

const parsed = new Map<string, BootEntry>();

function readEntry(fileName: string, text: string): BootEntry {
  const key = `${fileName}\0${text}`;
  let entry = parsed.get(key);
  if (entry === undefined) {
    entry = parseBootEntry(fileName, text);
    parsed.set(key, entry);
  }
  return entry;
}

/** Names and texts of the files directly in a directory; null without it. */
export function listFiles(machine: MemoryMachine, directory: string): [string, string][] | null {
  if (!machine.files.has(directory)) return null;
  const found: [string, string][] = [];
  for (const [path, text] of machine.files) {
    const rest = path.slice(directory.length);
    if (path.startsWith(directory) && rest !== "" && !rest.includes("/")) found.push([rest, text]);
  }
  return found.sort();
}

function listEntries(machine: MemoryMachine, directory: string): readonly BootEntry[] | null {
  const files = listFiles(machine, directory);
  if (files === null) return null;
  const entries = files.filter(([name]) => name.endsWith(".conf"));
  const { single } = separateTwins(entries.map(([name, text]) => readEntry(name, text)));
  const sorted = sortEntries(single, machine.loader);
  return machine.loader === "grub" && directory === LIVE ? markGivenUp(machine, sorted) : sorted;
}

function listTwins(machine: MemoryMachine): string[] {
  const files = (listFiles(machine, LIVE) ?? []).filter(([name]) => name.endsWith(".conf"));
  const { twins } = separateTwins(files.map(([name, text]) => readEntry(name, text)));
  return twins.map(({ fileName }) => `loader/entries/${fileName}`);
}

export function listKernels(machine: MemoryMachine): string[] {
  const parent = kernelsOf(machine);
  const names = [...machine.files.keys()].filter((path) => path.startsWith(`${parent}bootc_`));
  const directories = names.filter((path) => path.endsWith("/"));
  return directories.map((path) => path.slice(parent.length, -1)).sort();
}

/** As `observeWorld` would tell it. */
export function observe(machine: MemoryMachine): World {
  const staged = machine.files.get(STAGED_FILE);
  const stagedFile = staged === undefined ? null : parseStagedFile(staged, STAGED_FILE);
  const text = machine.files.get(FAILURES_FILE);
  const known = text === undefined ? [] : parseFailures(text, FAILURES_FILE).failures;
  const states = listStates(machine);
  const failures = dropLostRetries(known, describeStaged(stagedFile, states));
  const layout = LAYOUTS[machine.loader];
  const booted = { id: machine.booted, verityOptional: false };
  const assessment = assess(machine);
  return {
    ...installWorld(imageOf("a"), layout),
    booted,
    assessment,
    failures,
    live: markFailed(listEntries(machine, LIVE) ?? [], failures, { layout, booted, assessment }),
    staged: listEntries(machine, STAGED),
    stagedFile,
    states,
    pins: machine.pins,
    kernels: listKernels(machine),
    strays: listTwins(machine),
  };
}

function listStates({ states, pins }: MemoryMachine): World["states"] {
  return [...states].sort().map((id) => ({
    id,
    origin: originOf(id),
    complete: true,
    ...(pins.has(id) ? { isPinned: true as const } : {}),
  }));
}

function assess(machine: MemoryMachine): BootAssessment {
  const { countName, loader, started } = machine;
  const given = { ...UNASSESSED, startedId: started };
  if (loader === "grub") return { ...given, count: readGrubCount(machine) };
  return countName === null ? given : { ...given, count: countOf(countName) };
}

const origins = new Map<string, ReturnType<typeof parseOrigin>>();

function originOf(id: string): ReturnType<typeof parseOrigin> {
  let origin = origins.get(id);
  if (origin === undefined) {
    const { manifestDigest, originReference, bootDigest } = imageOf(id[0]!);
    const fields = { imageReference: originReference, bootType: "bls", bootDigest } as const;
    origin = parseOrigin(formatOrigin({ ...fields, manifestDigest }), "origin");
    origins.set(id, origin);
  }
  return origin;
}

function countOf(name: string): World["assessment"]["count"] {
  const { id, counter } = readEntryName(name);
  return { kind: "entry-name", entryId: id, counter: counter! };
}

/** Not the product's own: the loader is somebody else. */
export function readEntryName(name: string) {
  const match = /^(.*?)(?:\+(\d+)(?:-(\d+))?)?\.conf$/.exec(name)!;
  const left = match[2] === undefined ? null : Number(match[2]);
  const counter = left === null ? null : { left, done: Number(match[3] ?? 0) };
  return { id: match[1]!, counter };
}

/** What `bootc edit` shows of this machine. */
export function specificationOf(machine: MemoryMachine) {
  const world = observe(machine);
  const { staged, rollbackQueued } = assignSlots(world);
  const id = staged?.deploymentId ?? machine.booted;
  const { imageReference } = originOf(id);
  return {
    image: parseOriginReference(imageReference!),
    bootOrder: rollbackQueued ? ("rollback" as const) : ("default" as const),
  };
}

export const NO_RECORDS = {
  refused: null,
  failed: null,
  reached: [],
  watchdog: false,
} as unknown as BootRecords;

export type Action = (machine: MemoryMachine) => MemoryMachine;

/** Everything a transaction does, in pieces that are whole by themselves. */
export function* transactionActions(transaction: Transaction): Generator<Action> {
  const { prepare, commit, cleanup } = transaction;
  for (const step of [...prepare, commit, ...cleanup]) yield (machine) => applyStep(machine, step);
}

function edit(machine: MemoryMachine, change: (files: Map<string, string>) => void): MemoryMachine {
  const files = new Map(machine.files);
  change(files);
  return { ...machine, files };
}

export function applyStep(machine: MemoryMachine, step: Step): MemoryMachine {
  switch (step.kind) {
    case "mkdir":
      return edit(machine, (files) => files.set(`${step.path}/`, ""));
    case "write":
      return edit(machine, (files) => files.set(step.path, Buffer.from(step.bytes).toString()));
    case "copy":
      return edit(machine, (files) => files.set(step.to, step.from));
    case "remove":
      return edit(machine, (files) => {
        for (const path of files.keys()) if (isBelow(path, step.path)) files.delete(path);
      });
    case "exchange":
      return exchange(machine, step.a, step.b);
    case "sync":
      return machine;
    case "symlink":
      throw new Error("no verb makes symlinks on the ESP");
  }
}

function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(`${root}/`);
}

function exchange(machine: MemoryMachine, a: string, b: string): MemoryMachine {
  const has = (root: string) => [...machine.files.keys()].some((path) => isBelow(path, root));
  if (!has(a)) {
    if (has(b)) return machine;
    throw new Error(`exchange of "${a}", which is not there`);
  }
  const files = new Map<string, string>();
  for (const [path, text] of machine.files) {
    const other = isBelow(path, a)
      ? b + path.slice(a.length)
      : isBelow(path, b)
        ? a + path.slice(b.length)
        : path;
    files.set(other, text);
  }
  return { ...machine, files };
}

/** Equal for machines that nothing can tell apart. */
export function machineKey(machine: MemoryMachine): string {
  const short = (ids: ReadonlySet<string>) => [...ids].map((id) => id[0]).sort();
  const files = [...machine.files].sort();
  const { booted, started, nextRoot, cmdline, countName, states, pins, images } = machine;
  const running = [booted[0], started[0], nextRoot?.[0] ?? null, cmdline, countName];
  const text = [files, short(states), short(pins), short(images), running];
  return JSON.stringify(text).replaceAll(/([0-9a-f])\1{60,}/g, "$1");
}
