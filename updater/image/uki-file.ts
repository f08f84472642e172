// Unified kernels and addons that lie in an image's file tree, read from the object store.

import { FormatError } from "../../shared/error.ts";
import type { FileNode } from "../../shared/format/tree/node.ts";
import { type OpenUnifiedKernel, readUki } from "../../shared/format/uki/reader.ts";
import { openObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { pread } from "../../shared/sys/file.ts";

/**
 * `name` is the file's path in the image, for messages. FormatError when it is no PE program, IntegrityError when
 * the object is damaged.
 */
export function openUkiFile(repo: Repository, file: FileNode, name: string): OpenUnifiedKernel {
  const { content } = file;
  if (content.kind === "inline") {
    const { bytes } = content;
    const kernel = readUki({ name, sizeBytes: bytes.length, readAt: copyFrom(bytes) });
    return { ...kernel, [Symbol.dispose]: () => {} };
  }
  if (content.digest === undefined) {
    throw new FormatError("bad-value", `"${name}" has no content in the object store`);
  }
  using resources = new DisposableStack();
  const fd = resources.use(openObject(repo, content.digest));
  const kernel = readUki({
    name,
    sizeBytes: content.sizeBytes,
    readAt: (target, offset) => pread(fd, target, offset),
  });
  const owned = resources.move();
  return { ...kernel, [Symbol.dispose]: () => owned.dispose() };
}

function copyFrom(bytes: Uint8Array) {
  return (target: Uint8Array, offset: number): number => {
    const part = bytes.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  };
}
