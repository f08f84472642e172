// The program's own system calls, watched and made to fail: what shared/sys/libc.ts exports, with hooks
// around every call. Used by tests through vi.mock; imports nothing of the product that runs.
//
// Part of it plays vfat where a test says so: no file without a name, no links, and statfs says "vfat".

import { readlinkSync } from "node:fs";
import { join } from "node:path";

type Libc = typeof import("../../shared/sys/libc.ts");
export type CallArgument = number | Uint8Array | null;

export interface CallHooks {
  /** Below it, the file system is vfat. */
  readonly fatRoot: string | null;
  /** Minus errno: the call is not made and answers that. May throw: then nothing happens any more. */
  readonly before: (name: string, args: readonly CallArgument[]) => number | null;
  readonly after: (name: string, args: readonly CallArgument[], result: number) => void;
}

const EPERM = 1;
const EOPNOTSUPP = 95;
const VFAT_MAGIC = 0x4d44n;
const O_TMPFILE = 0o20000000;

/** Calls that change a file system, by any of the two ways. */
export const CHANGING_CALLS: ReadonlySet<string> = new Set(
  "fchmod fchmodat fchownat ftruncate linkat lsetxattr mkdirat mknodat renameat2 symlinkat unlinkat utimensat write pwrite copy_file_range ioctl".split(
    " ",
  ),
);
const O_CREAT = 0o100;

export function isCreating(name: string, args: readonly CallArgument[]): boolean {
  return name === "openat" && (Number(args[2]) & (O_CREAT | O_TMPFILE)) !== 0;
}

/** Absolute path of an open descriptor; its name may be gone. */
export function descriptorPath(fd: number): string {
  return readlinkSync(`/proc/self/fd/${fd}`);
}

/** Absolute path of a `(dirfd, path)` pair. */
function callPath(dir: CallArgument | undefined, path: CallArgument | undefined): string {
  const text = Buffer.from(path as Uint8Array)
    .toString("latin1")
    .split("\0")[0]!;
  if (text.startsWith("/")) return text;
  const number = Number(dir);
  return join(number < 0 || number > 0x7fffffff ? process.cwd() : descriptorPath(number), text);
}

/** The module with hooks; `control.hooks` null: as it is. */
export function interceptCalls(real: Libc, control: { hooks: CallHooks | null }): Libc {
  const wrap =
    (call: (name: never, ...args: never[]) => number) =>
    (name: string, ...args: CallArgument[]): number => {
      const { hooks } = control;
      const go = () => call(name as never, ...(args as never[]));
      if (hooks === null) return go();
      const refusal = hooks.before(name, args) ?? refuseOnFat(hooks.fatRoot, name, args);
      if (refusal !== null) return refusal;
      const result = go();
      if (name === "fstatfs" && result >= 0) playFat(hooks.fatRoot, args);
      hooks.after(name, args, result);
      return result;
    };
  return {
    ...real,
    attempt: wrap(real.attempt as never) as Libc["attempt"],
    attemptSyscall: wrap(real.attemptSyscall as never) as Libc["attemptSyscall"],
  };
}

function isBelow(root: string | null, path: string): boolean {
  return root !== null && (path === root || path.startsWith(`${root}/`));
}

function refuseOnFat(
  root: string | null,
  name: string,
  args: readonly CallArgument[],
): number | null {
  if (root === null) return null;
  if (name === "linkat" && isBelow(root, callPath(args[2], args[3]))) return -EPERM;
  if (name === "symlinkat" && isBelow(root, callPath(args[1], args[2]))) return -EPERM;
  const isNameless = name === "openat" && (Number(args[2]) & O_TMPFILE) === O_TMPFILE;
  return isNameless && isBelow(root, callPath(args[0], args[1])) ? -EOPNOTSUPP : null;
}

/** struct statfs begins with f_type, 8 bytes. */
function playFat(root: string | null, args: readonly CallArgument[]): void {
  if (!isBelow(root, descriptorPath(Number(args[0])))) return;
  const buffer = args[1] as Uint8Array;
  new DataView(buffer.buffer, buffer.byteOffset).setBigUint64(0, VFAT_MAGIC, true);
}
