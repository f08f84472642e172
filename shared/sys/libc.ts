// The C library: the only importer of bun:ffi. One dlopen, one table of signatures, one way to call.
//
// Invariants: the library is loaded at the first call, never at import (dlopen throws without a JIT,
// and prepare-root must be able to report that); errno is read from its cached thread-local address
// directly after the call; EINTR repeats the call (except close, whose descriptor is gone by then).
// Only symbols that glibc 2.17 and musl both have are named; newer calls go through syscall(2).

import { dlopen, FFIType, type Pointer, ptr, read } from "bun:ffi";
import { UnsupportedError } from "../error.ts";
import { EINTR } from "./constants.ts";
import { type SyscallName, syscallNumber } from "./syscall-number.ts";

const SIGNATURES = {
  __errno_location: { args: [], returns: "ptr" },
  chroot: { args: ["ptr"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  dup3: { args: ["i32", "i32", "i32"], returns: "i32" },
  execve: { args: ["ptr", "ptr", "ptr"], returns: "i32" },
  fchmod: { args: ["i32", "u32"], returns: "i32" },
  fchmodat: { args: ["i32", "ptr", "u32", "i32"], returns: "i32" },
  fchownat: { args: ["i32", "ptr", "u32", "u32", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
  fgetxattr: { args: ["i32", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  flistxattr: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  flock: { args: ["i32", "i32"], returns: "i32" },
  fstatfs: { args: ["i32", "ptr"], returns: "i32" },
  fsync: { args: ["i32"], returns: "i32" },
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  lgetxattr: { args: ["ptr", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  linkat: { args: ["i32", "ptr", "i32", "ptr", "i32"], returns: "i32" },
  llistxattr: { args: ["ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  lremovexattr: { args: ["ptr", "ptr"], returns: "i32" },
  lseek: { args: ["i32", "i64", "i32"], returns: FFIType.i64_fast },
  lsetxattr: { args: ["ptr", "ptr", "ptr", "u64", "i32"], returns: "i32" },
  mkdirat: { args: ["i32", "ptr", "u32"], returns: "i32" },
  mount: { args: ["ptr", "ptr", "ptr", "u64", "ptr"], returns: "i32" },
  openat: { args: ["i32", "ptr", "i32", "u32"], returns: "i32" },
  pread: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  prlimit: { args: ["i32", "i32", "ptr", "ptr"], returns: "i32" },
  pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  read: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  readlinkat: { args: ["i32", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  reboot: { args: ["i32"], returns: "i32" },
  sigaction: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  symlinkat: { args: ["ptr", "i32", "ptr"], returns: "i32" },
  sync: { args: [], returns: "void" },
  syncfs: { args: ["i32"], returns: "i32" },
  syscall: { args: ["i64", "ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: FFIType.i64_fast },
  umount2: { args: ["ptr", "i32"], returns: "i32" },
  unlinkat: { args: ["i32", "ptr", "i32"], returns: "i32" },
  unshare: { args: ["i32"], returns: "i32" },
  utimensat: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  write: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
} as const;

type FunctionName = Exclude<keyof typeof SIGNATURES, "__errno_location" | "syscall">;
/** A struct or string is a Uint8Array, NULL is null, everything else a number. */
export type Argument = number | Uint8Array | null;
type Foreign = (...args: readonly Argument[]) => number | bigint | null;

interface Libc {
  readonly functions: Readonly<Record<keyof typeof SIGNATURES, Foreign>>;
  readonly errnoAddress: Pointer;
}
let loaded: Libc | undefined;

/** Throws UnsupportedError where foreign functions cannot be called (no JIT, no libc). */
function load(): Libc {
  try {
    const { symbols } = dlopen("libc.so.6", SIGNATURES);
    const errnoAddress = symbols.__errno_location();
    if (errnoAddress === null) throw new Error("__errno_location returned NULL");
    return {
      functions: symbols as unknown as Libc["functions"],
      errnoAddress: Number(errnoAddress) as Pointer,
    };
  } catch (cause) {
    throw new UnsupportedError(
      "feature",
      "Cannot call the C library (libc.so.6, with a working JIT, is needed)",
      {},
      { cause },
    );
  }
}

/** Calls a C library function; returns its result, or minus errno when it answered -1. */
export function attempt(name: FunctionName, ...args: readonly Argument[]): number {
  const { functions, errnoAddress } = (loaded ??= load());
  const call = functions[name];
  for (;;) {
    const result = Number(call(...args));
    if (result !== -1) return result;
    const errno = read.i32(errnoAddress, 0);
    if (errno !== EINTR || name === "close") return -errno;
  }
}

/** Calls the kernel through syscall(2), for calls that old C libraries do not wrap. */
export function attemptSyscall(
  name: SyscallName,
  a: Argument = null,
  b: Argument = null,
  c: Argument = null,
  d: Argument = null,
  e: Argument = null,
  f: Argument = null,
): number {
  const { functions, errnoAddress } = (loaded ??= load());
  const number = syscallNumber(name);
  for (;;) {
    const result = Number(
      functions.syscall(
        number,
        asRegister(a),
        asRegister(b),
        asRegister(c),
        asRegister(d),
        asRegister(e),
        asRegister(f),
      ),
    );
    if (result !== -1) return result;
    const errno = read.i32(errnoAddress, 0);
    if (errno !== EINTR) return -errno;
  }
}

/** Negative ints (AT_FDCWD) as 32-bit patterns: the kernel looks at the low half of an int only. */
function asRegister(argument: Argument): Argument {
  return typeof argument === "number" && argument < 0 ? argument + 2 ** 32 : argument;
}

/** Address of `bytes`, which the caller must keep alive and unresized while it is in use. */
export function addressOf(bytes: Uint8Array): bigint {
  return BigInt(ptr(bytes));
}
