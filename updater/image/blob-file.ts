// Blobs and documents that are files of a directory, e.g. on a USB stick. The medium is not trusted: files
// must be regular files, and are bounded.

import { FormatError, IntegrityError, isErrno, StateError } from "../../shared/error.ts";
import { type Descriptor, MAX_DOCUMENT_BYTES } from "../../shared/format/oci/manifest.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openRegularFile } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import type { ByteSource } from "./blob.ts";
import { readAt } from "./read-at.ts";

const CHUNK_BYTES = 1 << 20;

/** The first of `paths` that there is, unchecked; fails at once when its size is wrong, before anything is imported. */
export async function* readBlobFile(
  paths: readonly string[],
  descriptor: Descriptor,
  what: string,
): ByteSource {
  const { digest, size } = descriptor;
  const opened = openFirst(paths);
  if (opened === null) {
    throw new IntegrityError(
      "missing-object",
      `${what} is missing from the directory; copy the image again`,
      { digest },
    );
  }
  using fd = opened.fd;
  const found = fstat(fd).sizeBytes;
  if (found !== size) {
    throw new IntegrityError(
      "size-mismatch",
      `${what} has ${found} bytes instead of ${size}; copy the image again`,
      { digest },
    );
  }
  for (let offset = 0; ; ) {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const count = await readAt(fd, buffer, offset).catch((cause: unknown) => {
      const context = { path: opened.path };
      throw new StateError("command-failed", `${what} cannot be read`, context, { cause });
    });
    if (count === 0) return;
    offset += count;
    yield buffer.subarray(0, count);
  }
}

/**
 * A document of the image in `directory`, at most MAX_DOCUMENT_BYTES. FormatError("not-found") when the directory is
 * there but not the file: it is not `kind` ("an OCI image directory") then.
 */
export async function readDocumentFile(
  directory: string,
  name: string,
  kind: string,
): Promise<Uint8Array> {
  const path = `${directory}/${name}`;
  using fd = openDocument(directory, name, kind);
  const { sizeBytes } = fstat(fd);
  if (sizeBytes > MAX_DOCUMENT_BYTES) {
    throw new FormatError("limit", `"${path}" is larger than ${MAX_DOCUMENT_BYTES} bytes`);
  }
  const bytes = Buffer.alloc(sizeBytes);
  return bytes.subarray(0, await readAt(fd, bytes, 0));
}

function openDocument(directory: string, name: string, kind: string): Fd {
  try {
    return openRegular(`${directory}/${name}`);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw isDirectory(directory)
      ? new FormatError("not-found", `"${directory}" is not ${kind}: it has no file "${name}"`)
      : new StateError("missing", `There is no directory "${directory}"; ${adviseOn(cause)}`, {
          path: directory,
        });
  }
}

function adviseOn(cause: unknown): string {
  return isErrno(cause, "ENOTDIR")
    ? 'a file in its place needs another transport, e.g. "oci-archive"'
    : "check the path and whether its medium is mounted";
}

function isDirectory(path: string): boolean {
  try {
    openat(null, path, O.PATH | O.DIRECTORY).close();
    return true;
  } catch {
    return false;
  }
}

function openFirst(paths: readonly string[]): { readonly fd: Fd; readonly path: string } | null {
  for (const path of paths) {
    try {
      return { fd: openRegular(path), path };
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR")) throw error;
    }
  }
  return null;
}

function openRegular(path: string): Fd {
  const fd = openRegularFile(null, path);
  if (fd !== null) return fd;
  throw new FormatError("bad-value", `"${path}" is not a regular file`);
}
