// The `oci:` transport: an image layout in a directory, e.g. on a USB stick.
//
// "path[:tag]": the tag starts at a colon after the last slash. The medium is not trusted: files
// must be regular files, are bounded, and are checked against their descriptors while streaming.

import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { FormatError, IntegrityError, isErrno, StateError } from "../../shared/error.ts";
import {
  blobPath,
  checkLayoutFile,
  LAYOUT_FILE,
  selectTag,
} from "../../shared/format/oci/layout.ts";
import {
  type Descriptor,
  type ImageIndex,
  MAX_DOCUMENT_BYTES,
  parseImageIndex,
} from "../../shared/format/oci/manifest.ts";
import { selectPlatform } from "../../shared/format/oci/platform.ts";
import { type ByteSource, verifyBlob } from "./blob.ts";
import { type ImageSource, type ResolvedImage, resolveImage } from "./resolved-image.ts";

const CHUNK_BYTES = 1 << 20;

export function openOciDirectory(image: string, architecture: string): ImageSource {
  const { directory, tag } = splitTag(image);
  const name = `oci:${image}`;
  const openBlob = (descriptor: Descriptor): ByteSource =>
    readBlobFile(directory, descriptor, `Blob ${descriptor.digest} of "${name}"`);
  return {
    name,
    resolve: () => resolveDirectory(directory, tag, architecture, openBlob),
    openLayer: (layer) => verifyBlob(openBlob(layer), layer, `Layer ${layer.digest} of "${name}"`),
  };
}

async function resolveDirectory(
  directory: string,
  tag: string | null,
  architecture: string,
  openBlob: (descriptor: Descriptor) => ByteSource,
): Promise<ResolvedImage> {
  checkLayoutFile(
    await readLayoutFile(directory, LAYOUT_FILE),
    `File "${directory}/${LAYOUT_FILE}"`,
  );
  const indexBytes = await readLayoutFile(directory, "index.json");
  const index = parseImageIndex(indexBytes, `File "${directory}/index.json"`);
  const what = `OCI directory "${directory}"`;
  const first =
    tag === null && isPlatformIndex(index)
      ? selectPlatform(index, architecture, what)
      : selectTag(index, tag, what);
  const name = `oci:${directory}${tag === null ? "" : `:${tag}`}`;
  return await resolveImage(first, openBlob, architecture, name);
}

/** Some tools list the images of all platforms in index.json itself. */
function isPlatformIndex({ manifests }: ImageIndex): boolean {
  const names = manifests.flatMap(({ platform }) =>
    platform?.os === "unknown" ? [] : [platform && `${platform.os}/${platform.architecture}`],
  );
  const isEach = names.every((name) => name !== undefined);
  return manifests.length > 1 && isEach && new Set(names).size === names.length;
}

function splitTag(image: string): { directory: string; tag: string | null } {
  const colon = image.lastIndexOf(":");
  if (colon < 0 || colon < image.lastIndexOf("/")) return { directory: image, tag: null };
  return { directory: image.slice(0, colon), tag: image.slice(colon + 1) || null };
}

/** A marker or index file; says what is wrong with the directory when it cannot be opened. */
async function readLayoutFile(directory: string, name: string): Promise<Uint8Array> {
  const path = `${directory}/${name}`;
  await using file = await openRegular(path).catch(async (cause: unknown) => {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw (await isDirectory(directory))
      ? new FormatError(
          "not-found",
          `"${directory}" is not an OCI image directory: it has no file "${name}"`,
        )
      : new StateError("missing", `There is no directory "${directory}"; ${adviseOn(cause)}`, {
          path: directory,
        });
  });
  const { size } = await file.stat();
  if (size > MAX_DOCUMENT_BYTES) {
    throw new FormatError("limit", `"${path}" is larger than ${MAX_DOCUMENT_BYTES} bytes`);
  }
  return await file.readFile();
}

function adviseOn(cause: unknown): string {
  return isErrno(cause, "ENOTDIR")
    ? 'a file in its place needs another transport, e.g. "oci-archive"'
    : "check the path and whether its medium is mounted";
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    return file.fd >= 0;
  } catch {
    return false;
  }
}

/** Fails at once when the size is wrong, before anything is imported. */
async function* readBlobFile(
  directory: string,
  descriptor: Descriptor,
  what: string,
): AsyncGenerator<Uint8Array> {
  const { digest, size } = descriptor;
  const path = `${directory}/${blobPath(digest)}`;
  await using file = await openRegular(path).catch((cause: unknown) => {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new IntegrityError(
      "missing-object",
      `${what} is missing from the directory; copy the image again`,
      { digest },
    );
  });
  const found = (await file.stat()).size;
  if (found !== size) {
    throw new IntegrityError(
      "size-mismatch",
      `${what} has ${found} bytes instead of ${size}; copy the image again`,
      { digest },
    );
  }
  for (;;) {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES).catch((cause: unknown) => {
      throw new StateError("command-failed", `${what} cannot be read`, { path }, { cause });
    });
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Never blocks on a FIFO. */
async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw new FormatError("bad-value", `"${path}" is not a regular file`);
}
