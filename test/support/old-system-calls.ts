// Runs a program without the system calls that came after Linux 5.15: seccomp answers ENOSYS, as a
// kernel does that does not know them. For the guest (x86-64); the numbers are those of the kernel's
// system call table, which only ever grows.

import { dlopen, ptr, read } from "bun:ffi";
import { execve } from "../../shared/sys/process.ts";

/** process_mrelease(2), the last one of 5.15. */
const LAST_OF_5_15 = 448;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;
const ENOSYS = 38;
const RET_ERRNO = 0x50000;
const RET_ALLOW = 0x7fff0000;

/** struct sock_filter: if (number > LAST_OF_5_15) return ENOSYS; else allow. */
const FILTER = [
  [0x20, 0, 0, 0],
  [0x25, 0, 1, LAST_OF_5_15],
  [0x06, 0, 0, RET_ERRNO | ENOSYS],
  [0x06, 0, 0, RET_ALLOW],
] as const;

/** set_mempolicy_home_node(2), of 5.17, with arguments that are never right. */
export function tryNewCall(): string {
  const { symbols } = dlopen("libc.so.6", {
    syscall: { args: ["i64", "i64", "i64", "i64", "i64"], returns: "i64" },
    __errno_location: { args: [], returns: "ptr" },
  });
  symbols.syscall(LAST_OF_5_15 + 2, 0, 0, 0, 1);
  return read.i32(symbols.__errno_location()!, 0) === ENOSYS ? "ENOSYS" : "known";
}

export function execWithoutNewCalls(argv: readonly string[]): never {
  const { symbols } = dlopen("libc.so.6", {
    prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  });
  const filter = new DataView(new ArrayBuffer(FILTER.length * 8));
  for (const [index, [code, ifTrue, ifFalse, value]] of FILTER.entries()) {
    filter.setUint16(index * 8, code, true);
    filter.setUint8(index * 8 + 2, ifTrue);
    filter.setUint8(index * 8 + 3, ifFalse);
    filter.setUint32(index * 8 + 4, value, true);
  }
  const program = new DataView(new ArrayBuffer(16));
  program.setUint16(0, FILTER.length, true);
  program.setBigUint64(8, BigInt(ptr(filter)), true);
  if (symbols.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) throw new Error("no_new_privs failed");
  if (symbols.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ptr(program), 0, 0) !== 0) {
    throw new Error("seccomp failed");
  }
  execve(argv[0]!, argv, { PATH: "/bin" });
}
