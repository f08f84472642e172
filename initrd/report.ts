// How prepare-root talks: the journal of its unit (standard output and error) and the kernel log,
// which reaches the console and the journal of the next boot as well.
//
// The kernel log gets a line only in an initramfs: elsewhere it is not ours to write to.

import { writeSync } from "node:fs";
import { describeError } from "../shared/error.ts";
import { O } from "../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../shared/sys/directory.ts";
import { Fd } from "../shared/sys/fd.ts";
import { openat, openatIfExists, readAll, writeAll } from "../shared/sys/file.ts";
import type { Outcome } from "./prepare-root.ts";

/** Kernel log levels; "crit" shows on the console even with "quiet". */
export type Level = "crit" | "warning" | "info";
const LEVEL_NUMBER = { crit: 2, warning: 4, info: 6 } as const;
const STATUS_LIMIT_BYTES = 1 << 16;
/** USER_HZ, the unit of times in /proc/<pid>/stat, on every Linux machine. */
const TICKS_PER_SECOND = 100;

/** One line on standard output (or error), and in the kernel log when `early`. */
export function say(level: Level, text: string, early: boolean): void {
  const line = `prepare-root: ${text.replaceAll("\n", " ")}\n`;
  try {
    // Not closed: 1 and 2 belong to the process.
    writeAll(new Fd(level === "info" ? 1 : 2), Buffer.from(line));
  } catch {
    // Closed or full, which must not decide whether the machine starts. Or system calls do not work
    // at all, and that has to be said somehow.
    writeAnyway(line);
  }
  if (early) logToKernel(level, line);
}

function logToKernel(level: Level, line: string): void {
  try {
    using log = openat(null, "/dev/kmsg", O.WRONLY | O.APPEND);
    writeAll(log, Buffer.from(`<${LEVEL_NUMBER[level]}>${line}`));
  } catch (error) {
    writeAnyway(`prepare-root: cannot write to the kernel log: ${describeError(error)}\n`);
  }
}

/** Not process.stderr, which makes a descriptor that is shared with others non-blocking. */
function writeAnyway(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // There is nobody left to tell.
  }
}

/** Says what was decided, how long it took and how much memory; `run`/composefs/prepare-root keeps it. */
export function announce(outcome: Outcome, run: string, early: boolean): void {
  for (const warning of outcome.warnings) say("warning", warning, early);
  const line = `${outcome.text} ${describeEffort()}`;
  say("info", line, early);
  if (!early) return;
  // The unit looks for this file: a stripped executable is a plain Bun that does nothing and exits 0.
  mkdiratIfMissing(null, `${run}/composefs`, 0o755);
  const flags = O.WRONLY | O.CREAT | O.TRUNC;
  using file = openat(null, `${run}/composefs/prepare-root`, flags, 0o644);
  writeAll(file, Buffer.from(`${line}\n`));
}

/** "in 410 ms (95 ms ours), 31 MB": since the process began, since our code began, peak memory. */
function describeEffort(): string {
  const ours = performance.now();
  const whole = sinceStartMs() ?? ours;
  const peak = peakMemoryBytes();
  const memory = peak === null ? "" : `, ${Math.round(peak / 1e6)} MB`;
  return `in ${Math.round(Math.max(whole, ours))} ms (${Math.round(ours)} ms ours)${memory}`;
}

/** Since the process was started, to 10 ms; null without /proc, and useless for PID 1. */
function sinceStartMs(): number | null {
  const stat = readProc("/proc/self/stat");
  const uptime = readProc("/proc/uptime");
  if (stat === null || uptime === null || process.pid === 1) return null;
  // Field 22 is the start time; the name in field 2 may hold spaces and ends at the last bracket.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(uptime.split(" ")[0]) * 1000 - (Number(fields[19]) * 1000) / TICKS_PER_SECOND;
}

function peakMemoryBytes(): number | null {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readProc("/proc/self/status") ?? "")?.[1];
  return kib === undefined ? null : Number(kib) * 1024;
}

function readProc(path: string): string | null {
  using file = openatIfExists(null, path, O.RDONLY);
  if (file === null) return null;
  return Buffer.from(readAll(file, STATUS_LIMIT_BYTES)).toString("utf8");
}
