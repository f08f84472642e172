// Our program against another one on the same input: runs that take turns, medians, ratios.
//
// Other work on the machine hits both sides alike because their runs alternate; so ratios are what is
// printed, never bare times. A row whose two results differ is an error: a wrong program would be
// measured all the same.

import { closeSync, openSync, readFileSync } from "node:fs";
import { type Command, formatTable } from "./measure.ts";

export interface Contender extends Command {
  /** File that the run leaves; what is compared. Null for runs whose result is checked elsewhere. */
  readonly result: string | null;
  /** Standard output goes into `result`; else it is dropped. */
  readonly printsResult?: boolean;
  /** Makes things ready before each run, unmeasured. */
  readonly prepare?: () => void;
}

export interface ComparisonRow {
  readonly label: string;
  /** Names of files and directories in the input, for memory by entry; null: memory in MB. */
  readonly entries: number | null;
  readonly ours: Contender;
  readonly theirs: Contender;
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
}

const POLL_MS = 5;

/** What `program` uses before it has looked at any input: its peak memory in bytes. */
export async function measureBase(program: Contender): Promise<number> {
  return (await runOnce(program)).peakBytes;
}

/** Runs ours and theirs in turns, after one round that only warms the page cache. */
async function compare(
  row: ComparisonRow,
  rounds: number,
): Promise<{ readonly ours: Sample; readonly theirs: Sample }> {
  const ours: Sample[] = [];
  const theirs: Sample[] = [];
  for (let round = 0; round <= rounds; round++) {
    const pair = [await runOnce(row.ours), await runOnce(row.theirs)] as const;
    if (round === 0) checkSame(row);
    else {
      ours.push(pair[0]);
      theirs.push(pair[1]);
    }
  }
  return { ours: medianSample(ours), theirs: medianSample(theirs) };
}

async function runOnce({ argv, argv0, ...run }: Contender): Promise<Sample> {
  run.prepare?.();
  const output = run.printsResult === true && run.result !== null ? run.result : "/dev/null";
  const stdout = openSync(output, "w");
  try {
    const started = performance.now();
    const child = Bun.spawn([...argv], {
      stdin: "ignore",
      stdout,
      stderr: "pipe",
      ...(argv0 === undefined ? {} : { argv0 }),
    });
    const watched = watchPeak(child.pid, child.exited);
    const code = await child.exited;
    const wallMs = performance.now() - started;
    if (code !== (run.expected ?? 0)) {
      const message = await new Response(child.stderr).text();
      throw new Error(`${argv.slice(0, 4).join(" ")}… ended with ${code}: ${message}`);
    }
    const cpuMs = Number(child.resourceUsage()!.cpuTime.total) / 1000;
    return { wallMs, cpuMs, peakBytes: await watched };
  } finally {
    closeSync(stdout);
  }
}

/**
 * Peak resident memory in bytes. Read from outside again and again, because what wait4(2) tells begins
 * with the memory of the process that started the program.
 */
async function watchPeak(pid: number, exited: Promise<number>): Promise<number> {
  let peakBytes = 0;
  let isDone = false;
  const done = exited.then(() => {
    isDone = true;
  });
  while (!isDone) {
    peakBytes = Math.max(peakBytes, readPeak(pid));
    await Promise.race([done, Bun.sleep(POLL_MS)]);
  }
  return peakBytes;
}

function readPeak(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it has ended
  }
}

function checkSame({ label, ours, theirs }: ComparisonRow): void {
  if (ours.result === null || theirs.result === null) return;
  if (readFileSync(ours.result).equals(readFileSync(theirs.result))) return;
  throw new Error(`${label}: the results differ: ${ours.result}, ${theirs.result}`);
}

function medianSample(samples: readonly Sample[]): Sample {
  const median = (pick: (sample: Sample) => number) =>
    samples.map(pick).sort((a, b) => a - b)[samples.length >> 1]!;
  return {
    wallMs: median(({ wallMs }) => wallMs),
    cpuMs: median(({ cpuMs }) => cpuMs),
    peakBytes: median(({ peakBytes }) => peakBytes),
  };
}

/** Bytes of memory that each program uses before it has looked at any input. */
export interface BaseMemory {
  readonly ours: number;
  readonly theirs: number;
}

/** All rows as a Markdown table of ratios, ours to theirs. `note` hears about every finished row. */
export async function compareAll(
  rows: readonly ComparisonRow[],
  base: BaseMemory,
  rounds: number,
  note: (line: string) => void,
): Promise<string> {
  const lines: string[][] = [];
  for (const row of rows) {
    const { ours, theirs } = await compare(row, rounds);
    const line = [
      row.label,
      ratio(ours.wallMs, theirs.wallMs),
      ratio(ours.cpuMs, theirs.cpuMs),
      memory(row, ours.peakBytes, base.ours),
      memory(row, theirs.peakBytes, base.theirs),
    ];
    note(`${line.join("  ")}  (${ours.wallMs.toFixed(0)} ms to ${theirs.wallMs.toFixed(0)} ms)`);
    lines.push(line);
  }
  return formatTable(["", "wall time", "CPU time", "memory, ours", "memory, C"], lines);
}

const ratio = (ours: number, theirs: number) => (ours / theirs).toFixed(2);

/** Beyond the base by entry, and all of it. */
function memory({ entries }: ComparisonRow, peakBytes: number, base: number): string {
  const total = `${(peakBytes / 1e6).toFixed(0)} MB`;
  if (entries === null) return total;
  return `${Math.round(Math.max(0, peakBytes - base) / entries)} B/entry (${total})`;
}
