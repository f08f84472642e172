// What starts leave behind on the root disk for the next one: `state/bootc/` (docs/boot-assessment.md).
//
//   boot-trial.json    a deployment is on trial; whoever starts next without being counted looks after it
//   boot-refused.json  prepare-root refused a deployment (initrd/refusal-record.ts writes it)
//   boot-reached       prepare-root mounted the deployment during a trial (initrd/reached-mark.ts writes it)
//   boot-failed.json   a counted start failed its checks, or was not complete in time
//
// Nothing is decided by the last three: they say why, where the loader's counter says that.

import { lstatSync, statSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { type Step, writeText } from "../../shared/txn/plan.ts";
import type { System } from "../boot/system.ts";
import type { EntryFile } from "./entry-exchange.ts";

const RECORD_DIRECTORY = "state/bootc";
const SIZE_LIMIT_BYTES = 64 * 1024;

const refusalSchema = z.object({
  id: z.string(),
  at: z.string(),
  text: z.string(),
  kind: z.enum(["verity", "other"]).catch("other"),
});
const failedSchema = z.object({ id: z.string(), at: z.string(), detail: z.string() });
export type FailedRecord = z.infer<typeof failedSchema>;

interface ReachedRecord {
  readonly id: string;
  /** RFC 3339 */
  readonly at: string;
}

/** Everything earlier starts left; null or empty where that is nothing, or nothing that can be understood. */
export interface BootRecords {
  readonly refused: z.infer<typeof refusalSchema> | null;
  readonly failed: FailedRecord | null;
  readonly reached: readonly ReachedRecord[];
  /** The machine was restarted by its watchdog. */
  readonly watchdog: boolean;
}

function recordPath(physicalRoot: string, name: string): string {
  return join(physicalRoot, RECORD_DIRECTORY, name);
}

export function readBootRecords(system: System): BootRecords {
  const { physicalRoot } = system;
  return {
    refused: readRecord(physicalRoot, "boot-refused.json", refusalSchema),
    failed: readRecord(physicalRoot, "boot-failed.json", failedSchema),
    reached: readReached(physicalRoot),
    watchdog: readWatchdogReset(system),
  };
}

function readRecord<T>(physicalRoot: string, name: string, schema: z.ZodType<T>): T | null {
  try {
    const text = readSmallText(recordPath(physicalRoot, name), SIZE_LIMIT_BYTES);
    const parsed = text === null ? null : schema.safeParse(JSON.parse(text));
    return parsed?.success === true ? parsed.data : null;
  } catch {
    return null; // half-written, or no file at all: there is no reason then, but a failure all the same
  }
}

/** A line `<id> <seconds since 1970>` for each start, the newest last; also of what is fallen back to. */
function readReached(physicalRoot: string): BootRecords["reached"] {
  try {
    const text = readSmallText(recordPath(physicalRoot, "boot-reached"), SIZE_LIMIT_BYTES) ?? "";
    return [...text.matchAll(/^([0-9a-f]{64,128}) ([0-9]{1,11})$/gm)].map(([, id, seconds]) => ({
      id: id!,
      at: new Date(Number(seconds) * 1000).toISOString(),
    }));
  } catch {
    return [];
  }
}

/** WDIOF_CARDRESET in linux/watchdog.h. */
const CARD_RESET = 0x20;

function readWatchdogReset({ sysfs }: System): boolean {
  try {
    const text = readSmallText(join(sysfs, "class/watchdog/watchdog0/bootstatus"), 4096) ?? "";
    return (Number(text.trim()) & CARD_RESET) !== 0;
  } catch {
    return false;
  }
}

/**
 * Steps before a menu goes live: with anything counted in it a trial is on. A deployment that has not been
 * tried yet begins without what earlier starts left.
 */
export function trialSteps(physicalRoot: string, entries: readonly EntryFile[]): Step[] {
  const counters = entries.flatMap(({ fileName }) => parseEntryName(fileName)?.counter ?? []);
  if (counters.length === 0) return [{ kind: "remove", path: trialPath(physicalRoot) }];
  if (counters.some(({ done }) => done === 0)) return newTrialSteps(physicalRoot);
  return writeTrialSteps(physicalRoot);
}

/** Something is going to be tried for the first time. */
export function newTrialSteps(physicalRoot: string): Step[] {
  return [...forgetRecordsSteps(physicalRoot), ...writeTrialSteps(physicalRoot)];
}

/** A trial is on, whatever the entries' names say. */
export function writeTrialSteps(physicalRoot: string): Step[] {
  return [...makeDirectorySteps(physicalRoot), writeText(trialPath(physicalRoot), "{}\n")];
}

/** Its existence is what units look at. */
export function trialPath(physicalRoot: string): string {
  return recordPath(physicalRoot, "boot-trial.json");
}

export function forgetRecordsSteps(physicalRoot: string): Step[] {
  return ["boot-refused.json", "boot-failed.json", "boot-reached"].map((name) => ({
    kind: "remove",
    path: recordPath(physicalRoot, name),
  }));
}

export function writeFailedSteps(physicalRoot: string, record: FailedRecord): Step[] {
  const text = `${JSON.stringify({ at: record.at, detail: record.detail, id: record.id })}\n`;
  return [
    ...makeDirectorySteps(physicalRoot),
    writeText(recordPath(physicalRoot, "boot-failed.json"), text),
  ];
}

/** Path of what keeps records from being written because it is no directory; null when nothing does. */
export function findRecordObstacle(physicalRoot: string): string | null {
  const path = join(physicalRoot, RECORD_DIRECTORY);
  try {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return null;
  } catch {
    return null; // what is above it has its own problem
  }
  try {
    return statSync(path).isDirectory() ? null : path;
  } catch {
    return path;
  }
}

export function makeDirectorySteps(physicalRoot: string): Step[] {
  return [join(physicalRoot, "state"), join(physicalRoot, RECORD_DIRECTORY)].map((path) => ({
    kind: "mkdir",
    path,
    mode: 0o755,
  }));
}
