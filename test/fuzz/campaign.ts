// Coverage-guided fuzzing of one target: what reaches a new branch, or an old one clearly more often,
// or costs more for its size than anything before, is kept and changed further.

import { writeSync } from "node:fs";
import { createRandom, type Random } from "../support/random-dump.ts";
import type { LoadedTarget } from "./bundle.ts";
import { inputName, saveFinding, saveInput } from "./corpus.ts";
import { mutate } from "./mutate.ts";
import { type Finding, runInput } from "./run.ts";
import { shrinkInput } from "./shrink.ts";

export interface CampaignOptions {
  /** Whichever comes first ends it; the inputs to begin with run in any case. */
  readonly runs: number;
  readonly seconds: number;
  readonly seed: number;
  readonly inputs: Iterable<Uint8Array>;
  /** Keep new inputs in the cache. */
  readonly save: boolean;
  /** Descriptor that gets every input before it runs, for what takes the whole process down. */
  readonly currentFd: number | null;
  readonly onProgress: (report: CampaignReport) => void;
}

export interface CampaignReport {
  readonly target: string;
  readonly executions: number;
  readonly accepted: number;
  readonly seconds: number;
  readonly processorSeconds: number;
  /** Branches of the files the target is about. */
  readonly pointsReached: number;
  readonly points: number;
  readonly inputs: number;
  readonly maxStepsPerByte: number;
  readonly maxMemoryPerByte: number;
  readonly findings: readonly (Finding & { readonly path: string })[];
}

interface Campaign {
  readonly loaded: LoadedTarget;
  readonly options: CampaignOptions;
  readonly random: Random;
  readonly entries: Uint8Array[];
  readonly names: Set<string>;
  /** For each point a bit for each class of hit counts. */
  readonly seen: Uint8Array;
  /** For each point the shortest input that reaches it; -1 for none. */
  readonly shortest: Int32Array;
  readonly reached: number[];
  readonly findings: Map<string, Finding & { readonly path: string }>;
  executions: number;
  accepted: number;
  maxStepsPerByte: number;
  maxMemoryPerByte: number;
}

const PROGRESS_MS = 10_000;
/** What a small input costs says nothing about the slope. */
const SLOPE_FROM_BYTES = 512;

export async function runCampaign(
  loaded: LoadedTarget,
  options: CampaignOptions,
): Promise<CampaignReport> {
  const campaign: Campaign = {
    loaded,
    options,
    random: createRandom(options.seed),
    entries: [],
    names: new Set(),
    seen: new Uint8Array(loaded.points.length),
    shortest: new Int32Array(loaded.points.length).fill(-1),
    reached: [],
    findings: new Map(),
    executions: 0,
    accepted: 0,
    maxStepsPerByte: 0,
    maxMemoryPerByte: 0,
  };
  const started = performance.now();
  let reported = started;
  const passed = () => {
    const now = performance.now();
    if (now - reported >= PROGRESS_MS) {
      options.onProgress(report(campaign, now - started));
      reported = now;
    }
    return now - started;
  };
  for (const input of options.inputs) {
    await execute(campaign, input);
    passed();
  }
  const last = campaign.executions + options.runs;
  while (campaign.executions < last && passed() < options.seconds * 1000) {
    await execute(campaign, nextInput(campaign));
  }
  return report(campaign, passed());
}

function report(campaign: Campaign, milliseconds: number): CampaignReport {
  const { loaded, executions, accepted, entries, findings } = campaign;
  const { focus = /(?:)/ } = loaded.target;
  const { user, system } = process.cpuUsage();
  return {
    target: loaded.name,
    executions,
    accepted,
    seconds: Math.round(milliseconds / 100) / 10,
    processorSeconds: Math.round((user + system) / 100_000) / 10,
    pointsReached: campaign.reached.filter((i) => focus.test(loaded.points[i]!)).length,
    points: loaded.points.filter((point) => focus.test(point)).length,
    inputs: entries.length,
    maxStepsPerByte: Math.round(campaign.maxStepsPerByte),
    maxMemoryPerByte: Math.round(campaign.maxMemoryPerByte),
    findings: [...findings.values()],
  };
}

function nextInput({ loaded, random, entries, shortest, reached }: Campaign): Uint8Array {
  const pick = () => {
    const way = random.below(4);
    if (way === 0) return random.pick(entries);
    if (way === 1) return entries[entries.length - 1 - random.below(Math.min(32, entries.length))]!;
    return entries[shortest[random.pick(reached)]!]!;
  };
  const [one, other] = [pick(), pick()];
  // Short inputs run faster and more of their bytes matter.
  const isShorter = other.length < one.length && random.chance(70);
  return mutate(loaded.target, isShorter ? other : one, random, pick);
}

async function execute(campaign: Campaign, input: Uint8Array): Promise<void> {
  const { loaded, options } = campaign;
  if (options.currentFd !== null) noteCurrent(options.currentFd, input);
  const outcome = await runInput(loaded, input);
  campaign.executions += 1;
  if (outcome.accepted) campaign.accepted += 1;
  if (outcome.finding !== null) {
    await addFinding(campaign, input, outcome.finding);
  } else if (isNew(campaign, input)) {
    addEntry(campaign, input);
  }
}

function noteCurrent(fd: number, input: Uint8Array): void {
  const header = Buffer.alloc(4);
  header.writeUInt32LE(input.length);
  writeSync(fd, Buffer.concat([header, input]), 0, input.length + 4, 0);
}

async function addFinding(campaign: Campaign, input: Uint8Array, finding: Finding): Promise<void> {
  const { loaded, findings } = campaign;
  if (findings.has(finding.signature)) return;
  // Saved first: making it smaller may take long.
  saveFinding(loaded.name, input, finding);
  const small = await shrinkInput(loaded, input, finding.signature);
  const path = saveFinding(loaded.name, small, finding);
  findings.set(finding.signature, { ...finding, path });
}

/** Looks at the counters of the last run and takes note of what was new. */
function isNew(campaign: Campaign, input: Uint8Array): boolean {
  const { loaded, seen, shortest, reached, entries } = campaign;
  const { counters, points } = loaded;
  let found = noteCost(campaign, input.length);
  const index = entries.length;
  for (let i = 0; i < points.length; i++) {
    const hits = counters[i]!;
    if (hits === 0) continue;
    const bit = 1 << hitClass(hits);
    if ((seen[i]! & bit) !== 0) continue;
    if (seen[i] === 0) reached.push(i);
    seen[i]! |= bit;
    found = true;
  }
  if (!found) return false;
  for (let i = 0; i < points.length; i++) {
    if (counters[i] === 0) continue;
    const best = shortest[i]!;
    if (best === -1 || entries[best]!.length > input.length) shortest[i] = index;
  }
  return true;
}

/** 1, 2, 3, 4-7, 8-15, 16-31, 32-127, more. */
export function hitClass(hits: number): number {
  if (hits < 4) return hits - 1;
  if (hits < 8) return 3;
  if (hits < 16) return 4;
  if (hits < 32) return 5;
  return hits < 128 ? 6 : 7;
}

function noteCost(campaign: Campaign, sizeBytes: number): boolean {
  if (sizeBytes < SLOPE_FROM_BYTES) return false;
  const { meter } = campaign.loaded;
  const steps = meter.steps / sizeBytes;
  const memory = meter.bytes / sizeBytes;
  const isWorse =
    steps > campaign.maxStepsPerByte * 1.1 || memory > campaign.maxMemoryPerByte * 1.1;
  campaign.maxStepsPerByte = Math.max(campaign.maxStepsPerByte, steps);
  campaign.maxMemoryPerByte = Math.max(campaign.maxMemoryPerByte, memory);
  return isWorse;
}

function addEntry(campaign: Campaign, input: Uint8Array): void {
  const { entries, names, options, loaded } = campaign;
  entries.push(input);
  const name = inputName(input);
  if (names.has(name)) return;
  names.add(name);
  if (options.save) saveInput(loaded.name, input);
}
