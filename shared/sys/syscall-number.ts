// System call numbers of the calls made through syscall(2). The table is compared with the kernel's
// headers in headers.test.ts. arm64 uses the generic table (asm-generic/unistd.h).

import { UnsupportedError } from "../error.ts";

export const SYSCALL_NUMBERS = {
  x64: {
    copy_file_range: 326,
    fsconfig: 431,
    fsmount: 432,
    fsopen: 430,
    getdents64: 217,
    getpriority: 140,
    ioprio_set: 251,
    mknodat: 259,
    mount_setattr: 442,
    move_mount: 429,
    open_tree: 428,
    pivot_root: 155,
    renameat2: 316,
    sendto: 44,
    setpriority: 141,
    socket: 41,
    statx: 332,
  },
  arm64: {
    copy_file_range: 285,
    fsconfig: 431,
    fsmount: 432,
    fsopen: 430,
    getdents64: 61,
    getpriority: 141,
    ioprio_set: 30,
    mknodat: 33,
    mount_setattr: 442,
    move_mount: 429,
    open_tree: 428,
    pivot_root: 41,
    renameat2: 276,
    sendto: 206,
    setpriority: 140,
    socket: 198,
    statx: 291,
  },
} as const;

export type SyscallName = keyof (typeof SYSCALL_NUMBERS)["x64"];

const numbers =
  process.arch === "x64" || process.arch === "arm64" ? SYSCALL_NUMBERS[process.arch] : null;

export function syscallNumber(name: SyscallName): number {
  if (numbers === null) {
    throw new UnsupportedError("architecture", `Cannot make system calls on "${process.arch}"`);
  }
  return numbers[name];
}
