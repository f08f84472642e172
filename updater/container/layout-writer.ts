// Writes an image into an OCI image layout (image spec 1.1, "image-layout"), which may have others already.
//
// Blobs come first, under the names that their digests give them; the image is there when index.json names it,
// which is one rename. What was written for an image that came to nothing is taken away again.

import { existsSync, mkdirSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { FormatError, isErrno, StateError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { blobPath, checkLayoutFile, LAYOUT_FILE } from "../../shared/format/oci/layout.ts";
import {
  type Descriptor,
  type ImageIndex,
  MAX_DOCUMENT_BYTES,
  parseImageIndex,
} from "../../shared/format/oci/manifest.ts";
import { OCI_INDEX } from "../../shared/format/oci/media-type.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { flock, fsync, syncfs, writeAll } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import { readSmallFile } from "../../shared/sys/small-file.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { TemporaryFile } from "../../shared/txn/temporary-file.ts";

const TAG = "org.opencontainers.image.ref.name";
const BLOBS = "blobs/sha256";
const FILE_MODE = 0o644;

export type BlobDescriptor = Pick<Descriptor, "digest" | "size">;

/** What is not committed is removed when it is disposed of. */
export class LayoutWriter implements Disposable {
  readonly directory: string;
  readonly #added: string[] = [];
  readonly #made: string[] = [];

  /** Makes the directory where it is missing. FormatError when it is something else than a layout. */
  constructor(directory: string) {
    this.directory = directory;
    checkLayout(directory);
    for (const path of [directory, join(directory, "blobs"), join(directory, BLOBS)]) {
      if (existsSync(path)) continue;
      makeDirectory(path);
      this.#made.unshift(path);
    }
  }

  path(digest: string): string {
    return join(this.directory, blobPath(digest));
  }

  /** Whether there is a blob of this name and size; its bytes are not looked at. */
  has({ digest, size }: BlobDescriptor): boolean {
    return fstatatIfExists(null, this.path(digest))?.sizeBytes === size;
  }

  putBytes(bytes: Uint8Array): BlobDescriptor {
    const digest = computeDigest(bytes);
    using file = this.#create();
    writeAll(file.fd, bytes);
    this.#publish(file, digest);
    return { digest, size: bytes.length };
  }

  /** Stores whatever comes, which is checked by who gives it. */
  async put(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<BlobDescriptor> {
    const hasher = new Bun.CryptoHasher("sha256");
    let size = 0;
    using file = this.#create();
    try {
      for await (const chunk of chunks) {
        hasher.update(chunk);
        writeAll(file.fd, chunk);
        size += chunk.length;
      }
    } catch (error) {
      throw explainNoSpace(error, `OCI directory "${this.directory}"`);
    }
    const digest = `sha256:${hasher.digest("hex")}`;
    this.#publish(file, digest);
    return { digest, size };
  }

  /** Names the image; what had the name before loses it. */
  commit(image: Descriptor, tag: string | null): void {
    const entry = tag === null ? image : { ...image, annotations: { [TAG]: tag } };
    this.changeIndex((index) => {
      const rest = index.manifests.filter(
        (each) => isArtifact(each) || (each.annotations?.[TAG] ?? null) !== tag,
      );
      return { ...index, manifests: [...rest, entry] };
    });
  }

  /** Makes index.json what `change` makes of it; everything that was put here stays. */
  changeIndex(change: (index: ImageIndex) => ImageIndex): void {
    using fd = openDirectory(null, this.directory);
    flock(fd, "exclusive", { wait: true });
    syncfs(fd);
    const next = change(readIndex(this.directory));
    const write = (name: string, value: unknown) =>
      writeFileAtomic(fd, name, Buffer.from(JSON.stringify(value)), { mode: FILE_MODE });
    if (fstatatIfExists(fd, LAYOUT_FILE) === null) {
      write(LAYOUT_FILE, { imageLayoutVersion: "1.0.0" });
    }
    write("index.json", next);
    fsync(fd);
    this.#added.length = 0;
    this.#made.length = 0;
  }

  #create(): TemporaryFile {
    const parent = join(this.directory, BLOBS);
    return new TemporaryFile(null, { parent, prefix: ".partial-", mode: FILE_MODE });
  }

  #publish(file: TemporaryFile, digest: string): void {
    const path = this.path(digest);
    const isNew = fstatatIfExists(null, path) === null;
    file.replace(path);
    if (isNew) this.#added.push(path);
  }

  [Symbol.dispose](): void {
    for (const path of this.#added) unlinkatIfExists(null, path);
    for (const path of this.#made) {
      try {
        rmdirSync(path);
      } catch (error) {
        if (!isErrno(error, "ENOTEMPTY", "EEXIST", "ENOENT")) throw error;
      }
    }
  }
}

/** Signatures and the like have no names of their own. */
function isArtifact(entry: Descriptor): boolean {
  return typeof entry["artifactType"] === "string";
}

/** An empty directory will do, and none; also what an attempt that was killed has left. */
function checkLayout(directory: string): void {
  const marker = join(directory, LAYOUT_FILE);
  const bytes = readSmallFile(marker, MAX_DOCUMENT_BYTES);
  if (bytes !== null) {
    checkLayoutFile(bytes, `File "${marker}"`);
    return;
  }
  const strange = listDirectory(directory).find((name) => name !== "blobs");
  if (strange === undefined) return;
  throw new FormatError(
    "not-found",
    `"${directory}" is not an OCI image directory, and not empty ("${strange}"): name another`,
  );
}

function listDirectory(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return [];
    throw new StateError("missing", `"${directory}" cannot be an OCI directory`, {}, { cause });
  }
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (cause) {
    throw new StateError("missing", `Cannot make the OCI directory "${path}"`, { path }, { cause });
  }
}

function readIndex(directory: string): ImageIndex {
  const path = join(directory, "index.json");
  const bytes = readSmallFile(path, MAX_DOCUMENT_BYTES);
  if (bytes === null) return { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] };
  return parseImageIndex(bytes, `File "${path}"`);
}
