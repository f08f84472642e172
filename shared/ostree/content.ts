// Content objects, files and symlinks, in each of the ways a repository keeps them (ostree.md 4.1), seen alike: a
// header, a size, and the bytes as a stream.
//
// - bare: the file itself, with owner, mode and xattrs. bare-split-xattrs: the same, but xattrs lie in another file.
// - bare-user: a regular file whose attribute `user.ostreemeta` has owner, mode and xattrs; a symlink's target is
//   the content. bare-user-only: the file itself, of which only the type and the permissions count.
// - archive: header, then raw deflate. Small ones are inflated at once, others piece by piece.

import { createInflateRaw, inflateRawSync } from "node:zlib";
import { FormatError, IntegrityError, SyscallError } from "../error.ts";
import { decodeGVariant } from "../format/gvariant/decode.ts";
import {
  archiveHeaderBytes,
  type FileHeader,
  MAX_HEADER_BYTES,
  makeFileHeader,
  parseArchiveHeader,
  startContentChecksum,
} from "../format/ostree/file-header.ts";
import { parseFileMetadata, xattrsFromVariant } from "../format/ostree/metadata.ts";
import { loosePath } from "../format/ostree/object.ts";
import {
  type ByteString,
  bytesToByteString,
  fromByteString,
  NO_XATTRS,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Xattrs,
} from "../format/tree/node.ts";
import { O } from "../sys/constants.ts";
import type { Fd } from "../sys/fd.ts";
import { openat, openatIfExists, pread, readAll } from "../sys/file.ts";
import { readlinkat } from "../sys/link.ts";
import { type FileStat, fstat, fstatatIfExists } from "../sys/stat.ts";
import { lgetxattr, llistxattr } from "../sys/xattr.ts";
import { damagedObject, missingObject } from "./objects.ts";
import type { OstreeRepository } from "./repository.ts";

export interface Content extends Disposable {
  readonly header: FileHeader;
  /** 0 for symlinks. */
  readonly sizeBytes: number;
  /** The bytes; each piece is valid until the next is asked for. Once only. */
  readonly chunks: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

const CHUNK_BYTES = 1 << 20;
/** Both compressed and not. */
const SMALL_BYTES = 1 << 20;
const METADATA_XATTR = "user.ostreemeta";
const XATTRS_LIMIT_BYTES = 1 << 20;

/** IntegrityError("missing-object"); FormatError when what is there cannot be a content object. */
export function openContent(repo: OstreeRepository, checksum: string): Content {
  for (let each: OstreeRepository | null = repo; each !== null; each = each.parent) {
    const content =
      each.config.mode === "archive" ? openArchived(each, checksum) : openBare(each, checksum);
    if (content !== null) return content;
  }
  throw missingObject(repo, checksum, contentType(repo));
}

/** Whether the repository, leaving out its parents, has a file for this content. */
export function contentType(repo: OstreeRepository): "file" | "filez" {
  return repo.config.mode === "archive" ? "filez" : "file";
}

/** Reads everything; IntegrityError unless header and content have the checksum. */
export async function checkContent(repo: OstreeRepository, checksum: string): Promise<FileHeader> {
  using content = openContent(repo, checksum);
  const hash = startContentChecksum(content.header);
  for await (const chunk of content.chunks()) hash.update(chunk);
  const found = hash.digest("hex");
  if (found !== checksum) throw damagedObject(repo, checksum, contentType(repo), found);
  return content.header;
}

function openBare(repo: OstreeRepository, checksum: string): Content | null {
  const path = `objects/${loosePath(checksum, "file")}`;
  const stat = fstatatIfExists(repo.dir, path);
  if (stat === null) return null;
  if ((stat.mode & S_IFMT) === S_IFLNK && repo.config.mode !== "bare-user") {
    const target = fromByteString(bytesToByteString(readlinkat(repo.dir, path)));
    return emptyContent(makeFileHeader(ownershipOf(repo, checksum, stat), target));
  }
  if ((stat.mode & S_IFMT) !== S_IFREG) {
    throw new FormatError(
      "bad-value",
      `"${repo.path}/${path}" is neither a regular file nor a symlink`,
      { format: "ostree" },
    );
  }
  const fd = openat(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  try {
    return openBareFile(repo, checksum, fd);
  } catch (error) {
    fd.close();
    throw error;
  }
}

function openBareFile(repo: OstreeRepository, checksum: string, fd: Fd): Content {
  const stat = fstat(fd);
  if (repo.config.mode === "bare-user") {
    const metadata = lgetxattr(objectPathOf(repo, checksum), METADATA_XATTR);
    if (metadata === null) {
      throw new FormatError(
        "bad-value",
        `"${repo.path}/objects/${loosePath(checksum, "file")}" has no ${METADATA_XATTR}`,
        { format: "ostree" },
      );
    }
    const ownership = parseFileMetadata(metadata);
    if ((ownership.mode & S_IFMT) === S_IFLNK) {
      // ostree 2026.4 writes a NUL behind it, and reads it as a C string.
      const [target = ""] = Buffer.from(readAll(fd, MAX_HEADER_BYTES)).toString("utf8").split("\0");
      fd.close();
      return emptyContent(makeFileHeader(ownership, target));
    }
    return fileContent(makeFileHeader(ownership, ""), fd, stat.sizeBytes);
  }
  const header = makeFileHeader(ownershipOf(repo, checksum, stat), "");
  return fileContent(header, fd, stat.sizeBytes);
}

function ownershipOf(repo: OstreeRepository, checksum: string, stat: FileStat) {
  const { mode, uid, gid } = stat;
  if (repo.config.mode === "bare-user-only") return { mode, uid: 0, gid: 0, xattrs: NO_XATTRS };
  const xattrs =
    repo.config.mode === "bare-split-xattrs"
      ? readSplitXattrs(repo, checksum)
      : readXattrs(objectPathOf(repo, checksum));
  return { mode, uid, gid, xattrs };
}

/** The xattr calls take paths only. */
function objectPathOf(repo: OstreeRepository, checksum: string): string {
  return `/proc/self/fd/${repo.dir.number}/objects/${loosePath(checksum, "file")}`;
}

/** What ostree sees of a file's or symlink's attributes: not those with an empty value. Not followed. */
export function readXattrs(path: string | Uint8Array): Xattrs {
  const names = llistxattr(path);
  if (names.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const name of names.sort()) {
    const value = lgetxattr(path, name);
    if (value !== null && value.length > 0) xattrs.set(name, value);
  }
  return xattrs;
}

/** ostree 2026.4 does not always write them; the checksum tells whether they are missed. */
function readSplitXattrs(repo: OstreeRepository, checksum: string): Xattrs {
  const path = `objects/${loosePath(checksum, "file-xattrs-link")}`;
  using fd = openatIfExists(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd === null) return NO_XATTRS;
  return xattrsFromVariant(decodeGVariant("a(ayay)", readAll(fd, XATTRS_LIMIT_BYTES)));
}

function emptyContent(header: FileHeader): Content {
  return { header, sizeBytes: 0, chunks: () => [], [Symbol.dispose]: () => {} };
}

function fileContent(header: FileHeader, fd: Fd, sizeBytes: number): Content {
  const chunks = () => readChunks(fd, 0, sizeBytes);
  return { header, sizeBytes, chunks, [Symbol.dispose]: () => fd.close() };
}

function* readChunks(fd: Fd, start: number, sizeBytes: number): Generator<Uint8Array> {
  // One byte more, so that the end is seen with the last piece.
  const buffer = new Uint8Array(Math.min(CHUNK_BYTES, sizeBytes - start + 1));
  for (let offset = start; ; ) {
    const count = pread(fd, buffer, offset);
    if (count === 0) return;
    yield buffer.subarray(0, count);
    offset += count;
    if (count < buffer.length && offset >= sizeBytes) return;
  }
}

function openArchived(repo: OstreeRepository, checksum: string): Content | null {
  const path = `objects/${loosePath(checksum, "filez")}`;
  const fd = openatIfExists(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd === null) return null;
  try {
    const start = archiveHeaderBytes(readAt(fd, 0, 8));
    const { header, sizeBytes } = parseArchiveHeader(readAt(fd, 0, start));
    if (header.target !== null) {
      fd.close();
      return emptyContent(header);
    }
    const end = fstat(fd).sizeBytes;
    const isSmall = sizeBytes < SMALL_BYTES && end - start < SMALL_BYTES;
    const what = `Object "${checksum}.filez" in "${repo.path}"`;
    const chunks = () =>
      isSmall
        ? [inflateSmall(readAt(fd, start, end - start), sizeBytes, what)]
        : inflate(readChunks(fd, start, end), sizeBytes, what);
    return { header, sizeBytes, chunks, [Symbol.dispose]: () => fd.close() };
  } catch (error) {
    fd.close();
    throw error;
  }
}

function readAt(fd: Fd, offset: number, length: number): Uint8Array {
  const buffer = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const count = pread(fd, buffer.subarray(done), offset + done);
    if (count === 0) break;
    done += count;
  }
  return buffer.subarray(0, done);
}

function inflateSmall(compressed: Uint8Array, sizeBytes: number, what: string): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = inflateRawSync(compressed, { maxOutputLength: sizeBytes + 1 });
  } catch (cause) {
    throw badDeflate(what, cause);
  }
  if (bytes.length !== sizeBytes) throw wrongSize(what, sizeBytes);
  return bytes;
}

async function* inflate(
  compressed: Iterable<Uint8Array>,
  sizeBytes: number,
  what: string,
): AsyncGenerator<Uint8Array> {
  const decoder = createInflateRaw({ chunkSize: CHUNK_BYTES });
  const source = compressed[Symbol.iterator]();
  // A piece is written when the one before is used up: the buffer is the same.
  const feed = () => {
    if (decoder.destroyed) return;
    try {
      const next = source.next();
      if (next.done === true) decoder.end();
      else decoder.write(next.value, feed);
    } catch (error) {
      decoder.destroy(error as Error);
    }
  };
  let size = 0;
  try {
    feed();
    for await (const chunk of decoder) {
      size += chunk.length;
      if (size > sizeBytes) throw wrongSize(what, sizeBytes);
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof IntegrityError || cause instanceof SyscallError) throw cause;
    throw badDeflate(what, cause);
  } finally {
    decoder.destroy();
  }
  if (size !== sizeBytes) throw wrongSize(what, sizeBytes);
}

function badDeflate(what: string, cause: unknown): FormatError {
  const options = { cause };
  return new FormatError("bad-value", `${what} is not valid deflate data`, {}, options);
}

function wrongSize(what: string, sizeBytes: number): IntegrityError {
  return new IntegrityError(
    "size-mismatch",
    `${what} does not have the ${sizeBytes} bytes that its header says`,
  );
}
