// A tar archive as a set of files that can be read in any order: one pass over its headers finds where each
// member's content lies; contents are then read from there. Nothing of it is ever written below a name.
//
// An archive that is compressed as a whole is unpacked to a temporary file without a name. Names are only
// looked up, never opened: links lead to other members, and one that leads outside is an error.

import { abortable } from "../../shared/abortable.ts";
import { FormatError, IntegrityError, isErrno, StateError } from "../../shared/error.ts";
import { toByteString } from "../../shared/format/tree/node.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openRegularFile, writeAll } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import { TemporaryFile } from "../../shared/txn/temporary-file.ts";
import {
  type ArchiveEntry,
  type ArchiveMember,
  normalizeMember,
  readArchiveIndex,
} from "./archive-index.ts";
import type { ByteSource } from "./blob.ts";
import { decompress, detectCompression } from "./decompression.ts";
import { limitTarBytes } from "./layers.ts";
import { readAt } from "./read-at.ts";

const CHUNK_BYTES = 1 << 20;
const MAX_LINKS = 8;
const MAGIC_BYTES = 6;
const TEMPORARY_DIRECTORY = "/var/tmp";

/** Tool and first bytes. */
const FOREIGN_MAGIC: readonly (readonly [string, Buffer])[] = [
  ["xz", Buffer.from("fd377a585a00", "hex")],
  ["bzip2", Buffer.from("BZh")],
];

/** An archive that is opened when it is first asked for, once. Disposing of it gives up opening it. */
export interface ArchiveOpening extends AsyncDisposable {
  open(): Promise<ArchiveFile>;
  /** Aborted when the archive is closed. */
  readonly signal: AbortSignal;
}

/** `name` is what was closed, in the reason of whatever still runs then. */
export function openOnDemand(
  name: string,
  open: (signal: AbortSignal) => Promise<ArchiveFile>,
): ArchiveOpening {
  const closing = new AbortController();
  let opening: Promise<ArchiveFile> | null = null;
  return {
    signal: closing.signal,
    open() {
      opening ??= open(closing.signal);
      return opening;
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new Error(`"${name}" was closed`));
      // What could not be opened was reported to whoever asked for it.
      const archive = await opening?.catch(() => null);
      archive?.[Symbol.dispose]();
    },
  };
}

export class ArchiveFile implements Disposable {
  readonly path: string;
  readonly #file: Fd | TemporaryFile;
  readonly #entries: ReadonlyMap<string, ArchiveEntry>;

  constructor(path: string, file: Fd | TemporaryFile, entries: ReadonlyMap<string, ArchiveEntry>) {
    this.path = path;
    this.#file = file;
    this.#entries = entries;
  }

  /** The file of this name, links followed; null when there is none. FormatError when the name is no path inside. */
  find(name: string): ArchiveMember | null {
    let path = normalizeMember(toByteString(name), "");
    for (let links = 0; links <= MAX_LINKS; links++) {
      const entry = path === null ? undefined : this.#entries.get(path);
      if (path === null) throw this.#problem("bad-value", name, "leads out of the archive");
      if (entry === undefined || entry.kind === "directory") return null;
      if (entry.kind === "file") return entry.member;
      if (entry.kind === "twice") throw this.#problem("bad-value", name, "is there more than once");
      if (entry.kind === "other") throw this.#problem("bad-value", name, "is not a regular file");
      path = entry.target === "" ? null : entry.target;
    }
    throw this.#problem("limit", name, `is behind more than ${MAX_LINKS} links`);
  }

  /** The content of a member. IntegrityError when the archive changed meanwhile. */
  async *open({ name, offset, sizeBytes }: ArchiveMember): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < sizeBytes; ) {
      const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - at));
      const count = await readAt(this.#fd, buffer, offset + at);
      if (count === 0) {
        throw new IntegrityError(
          "size-mismatch",
          `"${name}" in the archive "${this.path}" is cut short; copy the archive again`,
        );
      }
      at += count;
      yield buffer.subarray(0, count);
    }
  }

  /** Whether a layer is compressed inside the archive. */
  async isCompressed({ offset, sizeBytes }: ArchiveMember): Promise<boolean> {
    const buffer = Buffer.alloc(Math.min(MAGIC_BYTES, sizeBytes));
    const head = buffer.subarray(0, await readAt(this.#fd, buffer, offset));
    return detectCompression(head) !== "none";
  }

  /** All of a small member; FormatError("limit") when it is larger. */
  async read(member: ArchiveMember, limitBytes: number): Promise<Uint8Array> {
    if (member.sizeBytes > limitBytes) {
      throw this.#problem("limit", member.name, `is larger than ${limitBytes} bytes`);
    }
    const parts: Uint8Array[] = [];
    for await (const part of this.open(member)) parts.push(part);
    return Buffer.concat(parts);
  }

  #problem(code: FormatError["code"], name: string, problem: string): FormatError {
    return new FormatError(code, `"${name}" in the archive "${this.path}" ${problem}`);
  }

  get #fd(): Fd {
    return this.#file instanceof TemporaryFile ? this.#file.fd : this.#file;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/**
 * Opens and indexes the archive at `path`; the caller disposes of it. StateError("missing") when there is
 * none, FormatError when it is not a tar, StateError("no-space") when it cannot be unpacked, the reason of `signal`.
 * `limitOf` says to how much one of so many bytes may unpack.
 */
export async function openArchive(
  path: string,
  signal: AbortSignal,
  limitOf: (packedBytes: number) => number = limitTarBytes,
): Promise<ArchiveFile> {
  const fd = openArchiveFile(path);
  try {
    return (await isCompressed(fd, path))
      ? await unpackArchive(path, fd, signal, limitOf)
      : await index(path, fd, fd);
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** The archive that `chunks` are, kept in a temporary file; `path` is what it is called. */
export async function keepArchive(
  path: string,
  chunks: ByteSource,
  signal: AbortSignal,
): Promise<ArchiveFile> {
  const file = new TemporaryFile(null, {
    parent: TEMPORARY_DIRECTORY,
    prefix: "bootc-archive-",
    mode: 0o600,
  });
  try {
    for await (const chunk of abortable(chunks, signal)) writeAll(file.fd, chunk);
    return await index(path, file, file.fd);
  } catch (cause) {
    file[Symbol.dispose]();
    if (!isErrno(cause, "ENOSPC", "EDQUOT")) throw cause;
    throw new StateError(
      "no-space",
      `There is no room in "${TEMPORARY_DIRECTORY}" to unpack "${path}"; make room there, or give the image ` +
        'as an OCI directory (transport "oci")',
      {},
      { cause },
    );
  }
}

function openArchiveFile(path: string): Fd {
  let fd: Fd | null;
  try {
    fd = openRegularFile(null, path);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    const advice = "check the path and whether its medium is mounted";
    throw new StateError("missing", `There is no archive "${path}"; ${advice}`, { path });
  }
  if (fd !== null) return fd;
  const advice = 'for a directory use transport "oci" or "dir"';
  throw new FormatError("bad-value", `"${path}" is not a regular file; ${advice}`);
}

/** FormatError for the ways of packing that only other tools undo. */
async function isCompressed(fd: Fd, path: string): Promise<boolean> {
  const buffer = Buffer.alloc(MAGIC_BYTES);
  const head = buffer.subarray(0, await readAt(fd, buffer, 0));
  const tool = FOREIGN_MAGIC.find(([, magic]) => head.subarray(0, magic.length).equals(magic))?.[0];
  if (tool !== undefined) {
    throw new FormatError(
      "unsupported",
      `Archive "${path}" is packed with ${tool}, which is not supported; unpack it first with "${tool} -d"`,
    );
  }
  return detectCompression(head) !== "none";
}

async function unpackArchive(
  path: string,
  fd: Fd,
  signal: AbortSignal,
  limitOf: (packedBytes: number) => number,
): Promise<ArchiveFile> {
  const { sizeBytes } = fstat(fd);
  const limitBytes = limitOf(sizeBytes);
  const whole: ArchiveMember = { name: path, offset: 0, sizeBytes };
  using packed = new ArchiveFile(path, fd, new Map());
  const what = `Archive "${path}"`;
  return await keepArchive(path, decompress(packed.open(whole), what, { limitBytes }), signal);
}

async function index(path: string, file: Fd | TemporaryFile, fd: Fd): Promise<ArchiveFile> {
  try {
    return new ArchiveFile(path, file, await readArchiveIndex(fd));
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    const problem = `"${path}" is not a whole tar archive; copy it again`;
    throw new FormatError(cause.code, problem, cause.context, { cause });
  }
}
