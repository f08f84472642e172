// Problems that `status` found, in the journal (docs/journal.md): each once a boot, for programs ask for the
// status every minute. What was recorded is kept in /run/bootc/recorded-problems, one line each.

import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import type { System } from "../boot/system.ts";
import { recordEvent } from "../journal/events.ts";

const FILE = "bootc/recorded-problems";
const SIZE_LIMIT_BYTES = 8 << 20;

/** A problem that goes away and comes back is recorded again. Never fails: `status` has said it anyway. */
export function recordProblems(system: System, problems: readonly string[]): void {
  const path = join(system.runDirectory, FILE);
  const known = readLines(path);
  const lines = problems.map((problem) => problem.replaceAll("\n", " "));
  const isSame = lines.length === known.size && lines.every((line) => known.has(line));
  if (isSame) return;
  for (const line of lines) {
    if (!known.has(line)) recordEvent(system, "entryBroken", line, { PROBLEM: line });
  }
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    writeFileAtomic(null, path, bytes, { mode: 0o644, sync: false });
  } catch {
    // Then they are recorded once more the next time.
  }
}

function readLines(path: string): ReadonlySet<string> {
  try {
    const text = readSmallText(path, SIZE_LIMIT_BYTES) ?? "";
    return new Set(text.split("\n").filter((line) => line !== ""));
  } catch {
    return new Set();
  }
}
