// What a thread does with one task of the queue: read, hash, see that the file did not change meanwhile,
// and copy it to the digest store when there is one.
//
// A file is read by offset, so several threads may work on one descriptor.

import { toHex } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import { digestOfHashes, hashBlocks } from "../../shared/format/verity/blocks.ts";
import {
  BLOCK_BYTES,
  type VerityAlgorithm,
  verityHashBytes,
} from "../../shared/format/verity/digest.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { pread } from "../../shared/sys/file.ts";
import { describeFd } from "../../shared/sys/path.ts";
import { type FileStat, fstat } from "../../shared/sys/stat.ts";
import { type DigestStore, storeFile } from "./digest-store.ts";
import type { HashTask } from "./hash-queue.ts";

/** The longest task; whole blocks of hashes cover it with either algorithm (verity/blocks.ts). */
export const MAX_TASK_BYTES = 1 << 20;
const BUFFER_BYTES = 256 << 10;

/** What one thread needs; its buffers serve one task after the other. */
export interface TaskRunner {
  readonly algorithm: VerityAlgorithm;
  readonly store: DigestStore | null;
  readonly data: Uint8Array;
  readonly hashes: Uint8Array;
}

export function createTaskRunner(
  algorithm: VerityAlgorithm,
  store: DigestStore | null,
): TaskRunner {
  const blocks = MAX_TASK_BYTES / BLOCK_BYTES;
  return {
    algorithm,
    store,
    data: new Uint8Array(BUFFER_BYTES),
    hashes: new Uint8Array(blocks * verityHashBytes(algorithm)),
  };
}

/** What says whether a file was written to. */
export type FileState = Pick<FileStat, "sizeBytes" | "mtimeSec" | "mtimeNsec">;

/** The result lasts until the next task. Throws StateError "conflict" for a file that has changed. */
export function runTask(runner: TaskRunner, task: HashTask): Uint8Array {
  const { algorithm, hashes, store } = runner;
  const fd = new Fd(task.fd); // somebody else's: never closed here
  const usedBytes = hashContent(runner, fd, task);
  if (task.kind === "range") {
    return hashes.subarray(0, hashBlocks(algorithm, hashes, usedBytes, hashes));
  }
  const digest = digestOfHashes(algorithm, hashes, usedBytes, task.lengthBytes);
  if (store !== null) storeFile(store, fd, toHex(digest), task.lengthBytes);
  const { lengthBytes: sizeBytes, mtimeSec, mtimeNsec } = task;
  checkUnchanged(fd, { sizeBytes, mtimeSec, mtimeNsec });
  return digest;
}

/** Throws when the file is not as it was. */
export function checkUnchanged(fd: Fd, before: FileState): void {
  const { sizeBytes, mtimeSec, mtimeNsec } = fstat(fd);
  const isSame =
    sizeBytes === before.sizeBytes &&
    mtimeSec === before.mtimeSec &&
    mtimeNsec === before.mtimeNsec;
  if (!isSame) throw changedError(fd);
}

export function changedError(fd: Fd): StateError {
  return new StateError("conflict", `"${describeFd(fd)}" was changed while it was read; try again`);
}

/** Hashes of all blocks; returns their size. */
function hashContent({ algorithm, data, hashes }: TaskRunner, fd: Fd, task: HashTask): number {
  const { offsetBytes, lengthBytes } = task;
  let usedBytes = 0;
  for (let done = 0; done < lengthBytes; ) {
    const wanted = Math.min(lengthBytes - done, data.length);
    for (let got = 0; got < wanted; ) {
      const count = pread(fd, data.subarray(got, wanted), offsetBytes + done + got);
      if (count === 0) throw changedError(fd);
      got += count;
    }
    const out = usedBytes === 0 ? hashes : hashes.subarray(usedBytes);
    usedBytes += hashBlocks(algorithm, data, wanted, out);
    done += wanted;
  }
  return usedBytes;
}
