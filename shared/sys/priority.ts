// Stepping aside: work that nobody waits for must not be felt by those who use the machine.

import { attemptSyscall } from "./libc.ts";

const PRIO_PROCESS = 0;
const LOWEST_NICE = 19;
const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_SHIFT = 13;
const IOPRIO_CLASS_NONE = 0;
const IOPRIO_CLASS_IDLE = 3;
const CALLER = 0;

/**
 * For the calling thread, until disposed of: the disk when nobody else wants it (ioprio_set(2), idle class; what
 * becomes of it is the I/O scheduler's affair), the processor last (nice 19). Where the kernel refuses, nothing
 * changes.
 */
export function stepAside(): Disposable {
  // The system call answers 20 minus the niceness, which is never negative.
  const before = attemptSyscall("getpriority", PRIO_PROCESS, CALLER);
  attemptSyscall("setpriority", PRIO_PROCESS, CALLER, LOWEST_NICE);
  setIoClass(IOPRIO_CLASS_IDLE);
  return {
    [Symbol.dispose]: () => {
      if (before > 0) attemptSyscall("setpriority", PRIO_PROCESS, CALLER, 20 - before);
      setIoClass(IOPRIO_CLASS_NONE);
    },
  };
}

function setIoClass(ioClass: number): void {
  attemptSyscall("ioprio_set", IOPRIO_WHO_PROCESS, CALLER, ioClass << IOPRIO_CLASS_SHIFT);
}
