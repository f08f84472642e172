// Health checks of a start: every executable of /usr/lib/bootc/health.d and /etc/bootc/health.d in the order
// of their names, the one in /etc instead of the image's of the same name (an empty file or a link to
// /dev/null: none at all). docs/boot-assessment.md.
//
// What they write goes where this program's output goes, the journal. Names of those that failed are left in
// /run/bootc/health-failed, for failed-start.ts.

import { spawnSync } from "node:child_process";
import { accessSync, constants, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describeError, isErrno } from "../../shared/error.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import type { System } from "../boot/system.ts";

/** From weak to strong. */
const DIRECTORIES = ["usr/lib/bootc/health.d", "etc/bootc/health.d"];
const TIMEOUT_FILE = "etc/bootc/health-timeout";
const DEFAULT_TIMEOUT_SECONDS = 60;
const SIZE_LIMIT_BYTES = 4096;

export type HealthPlaces = Pick<System, "root" | "runDirectory">;

/** Whether all were good. `onLine` gets a line when one begins and when it ends. */
export function runHealthChecks(places: HealthPlaces, onLine: (line: string) => void): boolean {
  const timeoutSeconds = readTimeout(places.root, onLine);
  const failed: string[] = [];
  for (const { name, path } of listHealthChecks(places.root)) {
    onLine(`health check ${name}: begins`);
    const problem = runHealthCheck(path, timeoutSeconds);
    if (problem === null) {
      onLine(`health check ${name}: good`);
      continue;
    }
    // The number is the priority for the journal (sd-daemon(3)).
    onLine(`<3>health check ${name}: failed (${problem})`);
    failed.push(`"${name}" failed (${problem})\n`);
  }
  noteFailed(places.runDirectory, failed.join(""));
  return failed.length === 0;
}

function listHealthChecks(root: string): readonly { name: string; path: string }[] {
  const found = new Map<string, string>();
  for (const directory of DIRECTORIES) {
    for (const name of listNames(join(root, directory))) {
      found.set(name, join(root, directory, name));
    }
  }
  return [...found]
    .map(([name, path]) => ({ name, path }))
    .filter(({ path }) => isExecutable(path))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function listNames(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** What was wrong, or null. */
function runHealthCheck(path: string, timeoutSeconds: number): string | null {
  const { status, signal, error } = spawnSync(path, [], {
    stdio: ["ignore", "inherit", "inherit"],
    timeout: Math.ceil(timeoutSeconds * 1000),
    killSignal: "SIGKILL",
  });
  if (status === 0) return null;
  if (status !== null) return `exit status ${status}`;
  if (isErrno(error, "ETIMEDOUT")) return `took longer than ${timeoutSeconds} seconds`;
  return error === undefined ? `killed by ${signal}` : `cannot be run: ${error.message}`;
}

function readTimeout(root: string, onLine: (line: string) => void): number {
  try {
    const text = readSmallText(join(root, TIMEOUT_FILE), SIZE_LIMIT_BYTES)?.trim() ?? "";
    if (text === "") return DEFAULT_TIMEOUT_SECONDS;
    if (/^[0-9]{1,6}(?:\.[0-9]{1,3})?$/.test(text) && Number(text) > 0) return Number(text);
    onLine(`<4>/${TIMEOUT_FILE} is ignored: "${text}" is no number of seconds`);
  } catch (error) {
    onLine(`<4>/${TIMEOUT_FILE} is ignored: ${describeError(error)}`);
  }
  return DEFAULT_TIMEOUT_SECONDS;
}

/** Before a soft reboot, after which nothing was checked yet. */
export function forgetFailedChecks({ runDirectory }: Pick<HealthPlaces, "runDirectory">): void {
  noteFailed(runDirectory, "");
}

function noteFailed(runDirectory: string, text: string): void {
  const path = join(runDirectory, "bootc/health-failed");
  const write = writeText(path, text);
  applyTransaction({
    prepare: [{ kind: "mkdir", path: join(runDirectory, "bootc"), mode: 0o755 }],
    commit: text === "" ? { kind: "remove", path } : write,
    cleanup: [],
  });
}
