// Unified kernels and addons that lie in an image's file tree, read from the object store.

import { FormatError } from "../../shared/error.ts";
import type { FileNode } from "../../shared/format/tree/node.ts";
import {
  type ByteFile,
  type OpenUnifiedKernel,
  readUki,
  type UnifiedKernel,
} from "../../shared/format/uki/reader.ts";
import { openObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { pread } from "../../shared/sys/file.ts";

/**
 * `name` is the file's path in the image, for messages. FormatError when it is no PE program, IntegrityError when
 * the object is damaged.
 */
export function openUkiFile(repo: Repository, file: FileNode, name: string): OpenUnifiedKernel {
  using resources = new DisposableStack();
  const program = resources.use(openProgramFile(repo, file, name));
  const kernel = readUki(program);
  const owned = resources.move();
  return { ...kernel, [Symbol.dispose]: () => owned.dispose() };
}

/** Its bytes, whatever they are. */
export function openProgramFile(
  repo: Repository,
  { content }: FileNode,
  name: string,
): ByteFile & Disposable {
  if (content.kind === "inline") {
    const { bytes } = content;
    const readAt = copyFrom(bytes);
    return { name, sizeBytes: bytes.length, readAt, [Symbol.dispose]: () => {} };
  }
  if (content.digest === undefined) {
    throw new FormatError("bad-value", `"${name}" has no content in the object store`);
  }
  const fd = openObject(repo, content.digest);
  return {
    name,
    sizeBytes: content.sizeBytes,
    readAt: (target, offset) => pread(fd, target, offset),
    [Symbol.dispose]: () => fd.close(),
  };
}

/** FormatError for a program that is known to be for other machines than this one. */
export function requireOwnArchitecture({ architecture }: UnifiedKernel, name: string): void {
  if (architecture === null || architecture === process.arch) return;
  throw new FormatError(
    "unsupported",
    `"${name}" of the image is for ${architecture} machines, and this is one for ${process.arch}: build the image for that`,
    { path: name },
  );
}

function copyFrom(bytes: Uint8Array) {
  return (target: Uint8Array, offset: number): number => {
    const part = bytes.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  };
}
