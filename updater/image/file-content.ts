// Reading the contents of files in an image tree: small ones are in the tree, others in the object
// store, whose objects are checked when they are opened.

import { FormatError } from "../../shared/error.ts";
import type { FileNode } from "../../shared/format/tree/node.ts";
import { openObject, readObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { read } from "../../shared/sys/file.ts";

/** Gives a (small) file's bytes. */
export type FileReader = (file: FileNode) => Uint8Array;

const CHUNK_BYTES = 1 << 20;

/** All bytes; FormatError("limit") when there are more than `limitBytes`. */
export function readFileContent(repo: Repository, file: FileNode, limitBytes: number): Uint8Array {
  const { content } = file;
  if (content.kind === "inline") return content.bytes;
  if (content.sizeBytes > limitBytes) {
    throw new FormatError(
      "limit",
      `A file of ${content.sizeBytes} bytes is larger than the ${limitBytes} accepted`,
    );
  }
  return readObject(repo, requireDigest(file), limitBytes);
}

/** The bytes in pieces; each is valid until the next is asked for. */
export function* openFileContent(repo: Repository, file: FileNode): Generator<Uint8Array> {
  const { content } = file;
  if (content.kind === "inline") {
    yield content.bytes;
    return;
  }
  using fd = openObject(repo, requireDigest(file));
  const buffer = new Uint8Array(CHUNK_BYTES);
  for (let count = read(fd, buffer); count > 0; count = read(fd, buffer)) {
    yield buffer.subarray(0, count);
  }
}

function requireDigest({ content }: FileNode): string {
  const digest = content.kind === "external" ? content.digest : undefined;
  if (digest !== undefined) return digest;
  throw new FormatError("bad-value", "A file of the image has no content in the object store");
}
