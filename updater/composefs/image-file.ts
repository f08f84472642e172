// Image files of the tools: read whole, written as C's mkcomposefs does.

import { FormatError } from "../../shared/error.ts";
import { S_IFMT, S_IFREG } from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { openat, readAll, writeAll } from "../../shared/sys/file.ts";
import { fstat, fstatatIfExists } from "../../shared/sys/stat.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { TemporaryFile } from "../../shared/txn/temporary-file.ts";

const MAX_IMAGE_BYTES = 2 ** 32;
const IMAGE_MODE = 0o666;

export function readImageFile(path: string): Uint8Array {
  using fd = openat(null, path, O.RDONLY);
  if ((fstat(fd).mode & S_IFMT) !== S_IFREG) {
    throw new FormatError("bad-value", `"${path}" is not a regular file`);
  }
  return readAll(fd, MAX_IMAGE_BYTES);
}

/** Something that gives its bytes in pieces, which are valid during the call, when it is asked to. */
export type ImageSource = (put: (piece: Uint8Array) => void) => void;

/**
 * A new file appears complete. One that exists keeps its identity (links, mode, a device's node) and is
 * overwritten in place.
 */
export function writeImageFile(path: string, image: ImageSource): void {
  try {
    if (!writeNewFile(path, image)) {
      using fd = openat(null, path, O.WRONLY | O.CREAT | O.TRUNC, IMAGE_MODE);
      image((piece) => writeAll(fd, piece));
    }
  } catch (error) {
    throw explainNoSpace(error, `file "${path}"`);
  }
}

function writeNewFile(path: string, image: ImageSource): boolean {
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  if (name === "") return false;
  if (fstatatIfExists(null, path) !== null) return false;
  using parent = openDirectory(null, slash < 0 ? "." : `${path.slice(0, slash)}/`);
  using file = new TemporaryFile(parent, {
    parent: ".",
    prefix: `.${name.slice(0, 64)}.partial-`,
    mode: IMAGE_MODE,
  });
  image((piece) => writeAll(file.fd, piece));
  return file.link(name);
}
