// The process itself: becoming another program, and stopping the machine.

import { struct, u64n } from "../bytes/layout.ts";
import { syscallError } from "./errno.ts";
import { addressOf, attempt } from "./libc.ts";
import { cstring } from "./path.ts";

const SIGPIPE = 13;
const SIGXFSZ = 25;
/** struct sigaction of glibc on 64-bit machines; all zero means SIG_DFL. */
const SIGACTION_BYTES = 152;
const RLIMIT_NOFILE = 7;
/** The kernel's and systemd's own soft limit; programs with select(2) break above it. */
const NOFILE_SOFT = 1024;

export const Rlimit = struct("rlimit", 16, { soft: u64n, hard: u64n });

/**
 * execve(2): this process becomes `path`, with exactly this environment. Undoes what Bun changed and a
 * new program would inherit: SIGPIPE and SIGXFSZ are ignored, the soft limit of open files is raised.
 * Returns only by throwing.
 */
export function execve(
  path: string,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): never {
  resetInherited();
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const strings = [...argv, ...variables].map(cstring);
  const result = attempt(
    "execve",
    cstring(path),
    pointers(strings.slice(0, argv.length)),
    pointers(strings.slice(argv.length)),
  );
  // `strings` is named again so that the collector cannot free what the pointers point at.
  throw syscallError("execve", -result, { path, arguments: strings.length });
}

/** A NULL-terminated array of addresses. */
function pointers(strings: readonly Uint8Array[]): Uint8Array {
  const addresses = new BigUint64Array([...strings.map(addressOf), 0n]);
  return new Uint8Array(addresses.buffer);
}

/** Failures do not matter: the program that follows works with Bun's settings as well. */
function resetInherited(): void {
  const defaultAction = new Uint8Array(SIGACTION_BYTES);
  for (const signal of [SIGPIPE, SIGXFSZ]) attempt("sigaction", signal, defaultAction, null);
  const raw = new Uint8Array(Rlimit.sizeBytes);
  if (attempt("prlimit", 0, RLIMIT_NOFILE, null, raw) < 0) return;
  const view = new DataView(raw.buffer);
  const hard = view.getBigUint64(Rlimit.offsets.hard, true);
  const soft = hard < BigInt(NOFILE_SOFT) ? hard : BigInt(NOFILE_SOFT);
  view.setBigUint64(Rlimit.offsets.soft, soft, true);
  attempt("prlimit", 0, RLIMIT_NOFILE, raw, null);
}

/** reboot(2) at once, without stopping anything or syncing; `command` from REBOOT. */
export function reboot(command: number): never {
  const result = attempt("reboot", command | 0);
  throw syscallError("reboot", result < 0 ? -result : 0);
}

/** sync(2): all file systems. */
export function sync(): void {
  attempt("sync");
}
