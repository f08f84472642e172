// The whole content of one file into another, as cheaply as the file systems allow: shared blocks
// (FICLONE: btrfs, XFS, bcachefs, overlayfs above them), then copy_file_range(2), then read and write.
//
// That two file systems cannot share blocks is remembered for the pair of devices, so a tree of a million
// files asks once. A device number that is used again later only loses the sharing, never content.

import { IOCTL } from "./constants.ts";
import { ERRNO } from "./errno.ts";
import type { Fd } from "./fd.ts";
import { pread, writeAll } from "./file.ts";
import { attempt, attemptSyscall } from "./libc.ts";
import { checkFd } from "./path.ts";
import { fstat } from "./stat.ts";

const BUFFER_BYTES = 256 * 1024;
const STEP_BYTES = 1 << 30;

export interface CopiedFile {
  readonly sizeBytes: number;
  /** Both files share their blocks: nothing was copied. */
  readonly isReflink: boolean;
}

/** What no file of these two file systems can do. Others (EINVAL, ETXTBSY, …) are about one file. */
const PAIR_CANNOT_CLONE = errnos("EOPNOTSUPP", "EXDEV", "ENOTTY", "ENOSYS");
/** Where read(2) and write(2) may still work. */
const CANNOT_COPY = errnos("EXDEV", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EBADF", "ETXTBSY");
/** "source device>target device". */
const cannotClone = new Set<string>();

function errnos(...names: readonly string[]): ReadonlySet<number> {
  return new Set(names.map((name) => ERRNO.get(name)!));
}

/**
 * Copies all of `input`, from its beginning and without using or moving its position, into `output`,
 * which must be empty and open for writing. Not synced. The size returned is what was copied: compare
 * it with what is expected when the source may change meanwhile.
 */
export function copyFileContents(input: Fd, output: Fd): CopiedFile {
  if (clone(input, output)) return { sizeBytes: fstat(output).sizeBytes, isReflink: true };
  return { sizeBytes: copyInKernel(input, output), isReflink: false };
}

/** False when it is known that files of these two file systems cannot share blocks. */
export function mayShareBlocks(input: Fd, output: Fd): boolean {
  return !cannotClone.has(pairOf(input, output));
}

function pairOf(input: Fd, output: Fd): string {
  const [from, to] = [fstat(input), fstat(output)];
  return `${from.devMajor}:${from.devMinor}>${to.devMajor}:${to.devMinor}`;
}

function clone(input: Fd, output: Fd): boolean {
  const pair = pairOf(input, output);
  if (cannotClone.has(pair)) return false;
  const result = attempt("ioctl", output.number, IOCTL.FICLONE, input.number);
  if (result >= 0) return true;
  if (PAIR_CANNOT_CLONE.has(-result)) cannotClone.add(pair);
  return false; // whatever it was, copying says it better
}

function copyInKernel(input: Fd, output: Fd): number {
  const offset = new BigInt64Array(1); // moved on by the kernel
  for (;;) {
    const args = [input.number, new Uint8Array(offset.buffer), output.number, null] as const;
    const count = attemptSyscall("copy_file_range", ...args, STEP_BYTES, null);
    if (count < 0 && !CANNOT_COPY.has(-count)) checkFd("copy_file_range", count, output);
    // Zero is the end, or a file of /proc or /sys that only read(2) can tell.
    if (count <= 0) return copyByHand(input, output, Number(offset[0]));
  }
}

let buffer: Uint8Array | undefined;

function copyByHand(input: Fd, output: Fd, start: number): number {
  // Every copy ends here, mostly only to see that nothing is left.
  buffer ??= new Uint8Array(BUFFER_BYTES);
  let offset = start;
  for (;;) {
    const count = pread(input, buffer, offset);
    if (count === 0) return offset;
    writeAll(output, buffer.subarray(0, count));
    offset += count;
  }
}
