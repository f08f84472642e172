// Who asks that the machine is not shut down now: inhibitor locks of systemd-logind (logind's
// "Inhibitor Locks"; systemd-inhibit(1)), and waiting until nobody does any more.
//
// The list comes from logind's bus interface. Waiting uses no clock: logind keeps a file for each lock in
// /run/systemd/inhibit, and a change of that directory is the moment to ask again.

import { watch } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { StateError, UnsupportedError } from "../../shared/error.ts";
import { runProgram } from "./program.ts";
import type { System } from "./system.ts";

const DIRECTORY = "systemd/inhibit";

export interface Inhibitor {
  /** Name of the program, for people. */
  readonly who: string;
  readonly why: string;
  readonly pid: number;
}

/** Reply to ListInhibitors, signature a(ssssuu): what, who, why, mode, user, process. */
const reply = z.object({
  type: z.literal("a(ssssuu)"),
  data: z.tuple([
    z.array(z.tuple([z.string(), z.string(), z.string(), z.string(), z.number(), z.number()])),
  ]),
});

/** The locks that stand against a shutdown; those that only delay it are logind's own matter. */
export function parseInhibitors(json: string): Inhibitor[] {
  const [locks] = reply.parse(JSON.parse(json)).data;
  return locks
    .filter(([what, , , mode]) => what.split(":").includes("shutdown") && mode !== "delay")
    .map(([, who, why, , , pid]) => ({ who, why, pid }));
}

/** None where no logind answers: then nobody can ask for anything either. */
function listInhibitors(): Inhibitor[] {
  const service = ["org.freedesktop.login1", "/org/freedesktop/login1"];
  const call = ["--json=short", "call", ...service, "org.freedesktop.login1.Manager"];
  try {
    return parseInhibitors(
      runProgram("busctl", [...call, "ListInhibitors"], { package: "systemd" }),
    );
  } catch (error) {
    const isAbsent =
      error instanceof UnsupportedError ||
      (error instanceof StateError && error.code === "command-failed");
    if (isAbsent) return [];
    throw error;
  }
}

export interface WaitOptions {
  /** Whom we wait for, each time that changes. */
  readonly onWait: (holders: readonly Inhibitor[]) => void;
  /** Gives up with its reason. */
  readonly signal: AbortSignal;
}

/** Returns when nobody is against a shutdown; everybody who was, in the order they were seen. */
export async function waitForInhibitors(
  system: System,
  { onWait, signal }: WaitOptions,
): Promise<readonly Inhibitor[]> {
  const seen = new Map<string, Inhibitor>();
  let holders = listInhibitors();
  if (holders.length === 0) return [];
  using changes = watchDirectory(join(system.runDirectory, DIRECTORY), signal);
  let told = "";
  // Asked once more after the watch began, or a lock given back in between would be waited for for ever.
  for (holders = listInhibitors(); holders.length > 0; holders = listInhibitors()) {
    for (const holder of holders) seen.set(key(holder), holder);
    const now = holders.map(key).join("\n");
    if (now !== told) onWait(holders);
    told = now;
    await changes.next();
  }
  return [...seen.values()];
}

function key({ who, why, pid }: Inhibitor): string {
  return `${who}\0${why}\0${pid}`;
}

interface DirectoryWatch extends Disposable {
  /** Resolves at the next change, at once when one came since the last call; rejects when aborted. */
  readonly next: () => Promise<void>;
}

function watchDirectory(path: string, signal: AbortSignal): DirectoryWatch {
  let isChanged = false;
  let wake: (() => void) | null = null;
  const watcher = watch(path, () => {
    isChanged = true;
    wake?.();
  });
  const stop = () => wake?.();
  signal.addEventListener("abort", stop);
  return {
    next: async () => {
      if (!isChanged && !signal.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      wake = null;
      signal.throwIfAborted();
      isChanged = false;
    },
    [Symbol.dispose]: () => {
      signal.removeEventListener("abort", stop);
      watcher.close();
    },
  };
}
