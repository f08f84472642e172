// `npm run fuzz -- [TARGET…] [--seconds N | --runs N] [--seed N] [--replay] [--minimize]`: fuzzes the
// parsers of test/fuzz/targets, all of them when none is named. `TARGET --input FILE` shows one input.
//
// Each target runs in a process of its own, because an input may crash it or make it hang; the input
// it was at then lies in .cache/fuzz/NAME/current and becomes a finding. What is found new is kept in
// .cache/fuzz; --minimize makes the small corpus of test/vectors/fuzz of it. Exit code 1: findings.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { type LoadedTarget, loadTarget } from "../test/fuzz/bundle.ts";
import { type CampaignReport, runCampaign } from "../test/fuzz/campaign.ts";
import {
  listTargets,
  readCache,
  readPack,
  replaceCache,
  saveFinding,
  writePack,
} from "../test/fuzz/corpus.ts";
import { minimizeInputs } from "../test/fuzz/minimize.ts";
import { type Finding, runInput } from "../test/fuzz/run.ts";
import { cacheDir, projectDir } from "../test/support/cache.ts";

const SILENCE_MS = 180_000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string" },
    runs: { type: "string" },
    seed: { type: "string", default: "1" },
    /** Only the corpus of the repository, nothing from or to the cache. */
    replay: { type: "boolean", default: false },
    minimize: { type: "boolean", default: false },
    /** One line of JSON for each target instead of text. */
    json: { type: "boolean", default: false },
    worker: { type: "boolean", default: false },
    /** Lines that nothing known reaches. */
    unreached: { type: "boolean", default: false },
    /** Runs this file only and shows what comes of it. */
    input: { type: "string" },
  },
});

function readNumber(text: string | undefined, initial: number): number {
  const number = text === undefined ? initial : Number(text);
  if (!(number >= 0)) throw new Error(`"${text}" is not a number`);
  return number;
}

const seed = readNumber(values.seed, 1);
const runs = readNumber(values.runs, values.replay ? 0 : Number.POSITIVE_INFINITY);
const seconds = readNumber(
  values.seconds,
  values.runs === undefined ? 60 : Number.POSITIVE_INFINITY,
);
const names = positionals.length === 0 ? listTargets() : positionals;

if (values.worker) await work(names[0]!);
else if (values.input !== undefined) await runFile(names[0]!, values.input);
else if (values.unreached) for (const name of names) await showUnreached(name);
else process.exitCode = (await superviseAll()) === 0 ? 0 : 1;

function say(text: string): void {
  writeSync(1, `${text}\n`);
}

async function superviseAll(): Promise<number> {
  let findings = 0;
  for (const name of names) {
    if (values.minimize) say(await minimize(name));
    else findings += await supervise(name);
  }
  return findings;
}

/** Runs the worker, again after a crash as long as there is time; returns the number of findings. */
async function supervise(name: string): Promise<number> {
  const started = performance.now();
  for (let attempt = 0; ; attempt++) {
    const left = seconds - (performance.now() - started) / 1000;
    const { report, end } = await runWorker(name, seed + attempt, left);
    if (end === null && report !== null) {
      say(values.json ? JSON.stringify(report) : describe(report));
      return report.findings.length + attempt;
    }
    const finding: Finding = { kind: "crash", signature: `crash ${end}`, detail: `${end}` };
    say(`${name}: ${end}; input in ${saveFinding(name, readCurrent(name), finding)}`);
    if (attempt >= 5 || left <= 1 || runs !== Number.POSITIVE_INFINITY) return attempt + 1;
  }
}

interface WorkerResult {
  readonly report: CampaignReport | null;
  /** How the process ended when not by itself. */
  readonly end: string | null;
}

function runWorker(name: string, workerSeed: number, left: number): Promise<WorkerResult> {
  const args = [import.meta.filename, name, "--worker", "--seed", String(workerSeed)];
  if (runs !== Number.POSITIVE_INFINITY) args.push("--runs", String(runs));
  if (left !== Number.POSITIVE_INFINITY) args.push("--seconds", String(Math.max(0, left)));
  if (values.replay) args.push("--replay");
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve) => {
    let report: CampaignReport | null = null;
    let isHung = false;
    const stop = () => {
      isHung = true;
      child.kill("SIGKILL");
    };
    let timer = setTimeout(stop, SILENCE_MS);
    createInterface({ input: child.stdout! }).on("line", (line) => {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
      // The last one is the result and shown by the caller.
      if (report !== null && !values.json) say(`  ${describe(report)}`);
      report = JSON.parse(line);
    });
    child.on("close", () => {
      clearTimeout(timer);
      resolve({ report, end: isHung ? "hang" : describeEnd(child) });
    });
  });
}

function describeEnd({ exitCode, signalCode }: ChildProcess): string | null {
  if (signalCode !== null) return signalCode;
  return exitCode === 0 ? null : `exit code ${exitCode}`;
}

function readCurrent(name: string): Uint8Array {
  const bytes = readFileSync(currentPath(name));
  return bytes.subarray(4, 4 + bytes.readUInt32LE(0));
}

function currentPath(name: string): string {
  const folder = join(cacheDir, "fuzz", name);
  mkdirSync(folder, { recursive: true });
  return join(folder, values.replay ? "current-replay" : "current");
}

function describe(report: CampaignReport): string {
  const { executions, accepted, points, pointsReached } = report;
  const percent = (part: number, whole: number) => `${Math.round((100 * part) / (whole || 1))} %`;
  const lines = [
    `${report.target}: ${executions} runs in ${report.seconds} s (${report.processorSeconds} s of processor time), ${percent(accepted, executions)} accepted, ` +
      `${pointsReached} of ${points} branches (${percent(pointsReached, points)}), ${report.inputs} inputs, ` +
      `at most ${report.maxStepsPerByte} steps and ${report.maxMemoryPerByte} bytes of memory a byte, ` +
      `${report.findings.length} findings`,
    ...report.findings.map(({ signature, path }) => `  FINDING ${signature}\n    ${path}`),
  ];
  return lines.join("\n");
}

async function work(name: string): Promise<void> {
  const loaded = await loadTarget(name);
  const write = (report: CampaignReport) => say(JSON.stringify(report));
  const inputs = listInputs(loaded);
  const currentFd = openSync(currentPath(name), "w");
  const save = !values.replay;
  const options = { runs, seconds, seed, inputs, save, currentFd, onProgress: write };
  write(await runCampaign(loaded, options));
}

/** The repository's corpus, and, unless only that is wanted, the cache and what the corpus is made of. */
function listInputs({ name, target }: LoadedTarget): readonly Uint8Array[] {
  const kept = readPack(name);
  if (values.replay && kept.length > 0) return kept;
  return [...kept, ...target.seeds(projectDir), ...readCache(name)];
}

async function showUnreached(name: string): Promise<void> {
  const loaded = await loadTarget(name);
  const { points, counters } = loaded;
  const reached = new Set<number>();
  for (const input of listInputs(loaded)) {
    await runInput(loaded, input);
    for (let i = 0; i < points.length; i++) if (counters[i] !== 0) reached.add(i);
  }
  const { focus = /(?:)/ } = loaded.target;
  const unreached = points.filter((point, i) => !reached.has(i) && focus.test(point));
  for (const point of new Set(unreached)) say(`${name}: ${point}`);
}

async function runFile(name: string, path: string): Promise<void> {
  const loaded = await loadTarget(name);
  const { accepted, finding } = await runInput(loaded, Uint8Array.from(readFileSync(path)));
  if (finding !== null) process.exitCode = 1;
  say(finding?.detail ?? (accepted ? "accepted" : "refused"));
}

async function minimize(name: string): Promise<string> {
  const loaded = await loadTarget(name);
  const inputs = [...readPack(name), ...loaded.target.seeds(projectDir), ...readCache(name)];
  const { kept, cached, withFindings } = await minimizeInputs(loaded, inputs);
  replaceCache(name, cached);
  const sizeBytes = writePack(name, kept);
  return `${name}: ${kept.length} of ${inputs.length} inputs kept in ${sizeBytes} bytes, ${cached.length} cached, ${withFindings} with findings left out`;
}
