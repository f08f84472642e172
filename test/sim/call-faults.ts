// System calls of the program under test that fail: a full disk (ENOSPC, where something is allocated) and a broken
// one (EIO, everywhere), once or from some call on always.

import { type CallArgument, type CallHooks, isCreating } from "./system-calls.ts";

const ALLOCATING = new Set(
  "write pwrite mkdirat linkat symlinkat renameat2 mknodat copy_file_range ftruncate lsetxattr fsync syncfs".split(
    " ",
  ),
);
/** What cannot fail on a disk, or whose failure nobody looks at. */
const NEVER = new Set("close dup3 fcntl flock prlimit ioctl sigaction".split(" "));

export interface CallFault {
  readonly name: string;
  readonly errno: number;
  readonly lasts: boolean;
  readonly hits: (name: string, args: readonly CallArgument[]) => boolean;
}

const isAllocation: CallFault["hits"] = (name, args) =>
  ALLOCATING.has(name) || isCreating(name, args);

export const CALL_FAULTS: readonly CallFault[] = [
  { name: "ENOSPC", errno: 28, lasts: false, hits: isAllocation },
  { name: "ENOSPC from there on", errno: 28, lasts: true, hits: isAllocation },
  { name: "EIO", errno: 5, lasts: false, hits: (name) => !NEVER.has(name) },
  { name: "EIO from there on", errno: 5, lasts: true, hits: (name) => !NEVER.has(name) },
];

export interface Injection extends CallHooks {
  /** Calls so far that the fault may hit. */
  calls: number;
  /** The first one that was hit; "" as long as none was. */
  name: string;
}

/** `at`: the number of the call, from 1. */
export function injectFault(fatRoot: string, fault: CallFault, at: number): Injection {
  return {
    calls: 0,
    name: "",
    fatRoot,
    before(name, args) {
      if (!fault.hits(name, args)) return null;
      this.calls += 1;
      const isNow = fault.lasts ? this.calls >= at : this.calls === at;
      if (this.calls === at) this.name = name;
      return isNow ? -fault.errno : null;
    },
    after: () => {},
  };
}

/** One line for people, of a class that is meant for them; else what is wrong with it. */
export function judgeError(error: unknown, describe: (error: unknown) => string): string[] {
  const text = describe(error);
  let first = error as { kind?: unknown; suppressed?: never };
  while (first.suppressed !== undefined) first = first.suppressed;
  const isMeant = typeof first.kind === "string" && !text.includes("\n");
  return isMeant ? [] : [`an error nobody planned for: ${(error as Error).stack ?? text}`];
}
