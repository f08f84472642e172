// What a thread does with one task of an object pool (object-pool.ts): store a small file, write a part of
// a large one and hash it, or seal a large one that is complete.
//
// Every task may be done again, by another thread as well: a failed one is, for its error.

import { fromHex, toHex } from "../../shared/bytes/hex.ts";
import { digestOfHashes, hashBlocks } from "../../shared/format/verity/blocks.ts";
import { BLOCK_BYTES, verityHashBytes } from "../../shared/format/verity/digest.ts";
import { adoptTemporary, explainFull, publishFile } from "../../shared/store/object-file.ts";
import { storeKnownObject } from "../../shared/store/objects.ts";
import { Repository } from "../../shared/store/repository.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { pwriteAll } from "../../shared/sys/file.ts";
import {
  createTaskQueue,
  postTask,
  readField,
  type TaskQueue,
} from "../../shared/sys/task-queue.ts";

/** The most a task is about; whole blocks of hashes cover it with either algorithm (verity/blocks.ts). */
export const MAX_TASK_BYTES = 1 << 20;
/** Parts of a large file are multiples of this, but for the last one. */
export const PART_BYTES = 1 << 19;

export interface ObjectTask {
  /** "object": the whole content; result: its digest. "part": of the file `fd`; result: the hashes of its
   * blocks of hashes, nothing in a secure repository. "seal": of the file `fd`; result: its digest. */
  readonly kind: "object" | "part" | "seal";
  readonly fd: number;
  /** In the file. */
  readonly offsetBytes: number;
  /** In the queue's data. */
  readonly startByte: number;
  readonly lengthBytes: number;
}

const ALGORITHMS = ["sha256", "sha512"] as const;
const KINDS = ["object", "part", "seal"] as const;

/** What one thread needs. */
export interface ObjectRunner {
  readonly repo: Repository;
  readonly data: Uint8Array;
  readonly hashes: Uint8Array;
}

export function createObjectQueue(repo: Repository, dataBytes: number): TaskQueue {
  const algorithm = ALGORITHMS.indexOf(repo.algorithm);
  return createTaskQueue([repo.dir.number, algorithm, repo.secure ? 1 : 0], dataBytes);
}

export function createObjectRunner(repo: Repository, { data }: TaskQueue): ObjectRunner {
  const hashBytes = verityHashBytes(repo.algorithm);
  return { repo, data, hashes: new Uint8Array((MAX_TASK_BYTES / BLOCK_BYTES) * hashBytes) };
}

/** For a thread that knows only the queue: the repository is open in another one. */
export function openObjectRunner(queue: TaskQueue): ObjectRunner {
  const [directory, algorithm, secure] = queue.settings;
  const metadata = {
    algorithm: ALGORITHMS[algorithm!]!,
    erofsVersion: 1,
    extraErofsVersions: [],
    readOnlyFeatures: [],
  } as const;
  return createObjectRunner(new Repository(new Fd(directory!), "", metadata, secure === 1), queue);
}

/** For the poster; see `postTask` of the queue. */
export function postObjectTask(queue: TaskQueue, number: number, task: ObjectTask): void {
  const { kind, fd, offsetBytes, startByte, lengthBytes } = task;
  postTask(queue, number, [KINDS.indexOf(kind), fd, offsetBytes, startByte, lengthBytes]);
}

export function readObjectTask(queue: TaskQueue, number: number): ObjectTask {
  return {
    kind: KINDS[readField(queue, number, 0)]!,
    fd: readField(queue, number, 1),
    offsetBytes: readField(queue, number, 2),
    startByte: readField(queue, number, 3),
    lengthBytes: readField(queue, number, 4),
  };
}

/** The result lasts until the next task. Errors as those of the object store. */
export function runObjectTask(runner: ObjectRunner, task: ObjectTask): Uint8Array {
  if (task.kind === "object") return storeContent(runner, task);
  return task.kind === "part" ? writePart(runner, task) : sealFile(runner, task);
}

function storeContent({ repo, data, hashes }: ObjectRunner, task: ObjectTask): Uint8Array {
  const { startByte, lengthBytes } = task;
  // hashBlocks fills up the last block, for which the poster leaves room.
  const usedBytes = hashBlocks(repo.algorithm, data.subarray(startByte), lengthBytes, hashes);
  const digest = digestOfHashes(repo.algorithm, hashes, usedBytes, lengthBytes);
  const content = data.subarray(startByte, startByte + lengthBytes);
  storeKnownObject(repo, content, toHex(digest), {});
  return digest;
}

function writePart({ repo, data, hashes }: ObjectRunner, task: ObjectTask): Uint8Array {
  const { fd, offsetBytes, startByte, lengthBytes } = task;
  const content = data.subarray(startByte, startByte + lengthBytes);
  explainFull(repo, () => pwriteAll(new Fd(fd), content, offsetBytes));
  if (repo.secure) return hashes.subarray(0, 0);
  const usedBytes = hashBlocks(repo.algorithm, data.subarray(startByte), lengthBytes, hashes);
  return hashes.subarray(0, hashBlocks(repo.algorithm, hashes, usedBytes, hashes));
}

function sealFile({ repo }: ObjectRunner, { fd }: ObjectTask): Uint8Array {
  const file = adoptTemporary(repo, new Fd(fd)); // closed by whoever made it
  return fromHex(explainFull(repo, () => publishFile(repo, file, null)));
}
