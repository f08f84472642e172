// Unified kernels on the ESP, `EFI/Linux/bootc/bootc_composefs-<id>.efi` (bootc.md 4.4, 4.5): what is in one,
// read from the file without running anything.

import { join } from "node:path";
import { FormatError } from "../../shared/error.ts";
import { PE_HEADER_BYTES, type PeSection, parsePeSections } from "../../shared/format/uki/pe.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openRegularFile, pread } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import type { BootEntry } from "./boot-entry.ts";
import type { BootLayout } from "./boot-layout.ts";

const TEXT_LIMIT_BYTES = 256 * 1024;
const CHUNK_BYTES = 1024 * 1024;

export interface UnifiedKernel extends Disposable {
  readonly sections: readonly PeSection[];
  /** Text of a section, without what fills it up; null when there is none. FormatError over 256 KiB. */
  readonly readText: (name: string) => string | null;
  /** The section's bytes in pieces; FormatError when there is none. */
  readonly readChunks: (name: string) => Iterable<Uint8Array>;
}

/** FormatError when the file is no PE program. */
export function openUki(path: string): UnifiedKernel {
  using resources = new DisposableStack();
  const file = resources.use(openFile(path));
  const { sizeBytes } = fstat(file);
  const head = new Uint8Array(Math.min(sizeBytes, PE_HEADER_BYTES));
  readFully(file, head, 0, path);
  const sections = readSections(head, sizeBytes, path);
  const find = (name: string) => sections.find((section) => section.name === name) ?? null;
  const owned = resources.move();
  return {
    sections,
    readText: (name) => readText(file, find(name), path),
    readChunks: (name) => {
      const section = find(name);
      if (section === null)
        throw new FormatError("not-found", `"${path}" has no section "${name}"`, { path });
      return readChunks(file, section, path);
    },
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function readText(file: Fd, section: PeSection | null, path: string): string | null {
  if (section === null) return null;
  if (section.sizeBytes > TEXT_LIMIT_BYTES) {
    throw new FormatError(
      "limit",
      `Section "${section.name}" of "${path}" is larger than 256 KiB`,
      { path },
    );
  }
  const bytes = new Uint8Array(section.sizeBytes);
  readFully(file, bytes, section.offset, path);
  return Buffer.from(bytes).toString("utf8").replace(/\0+$/, "").trim();
}

function* readChunks(file: Fd, section: PeSection, path: string): Generator<Uint8Array> {
  const end = section.offset + section.sizeBytes;
  for (let offset = section.offset; offset < end; offset += CHUNK_BYTES) {
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - offset));
    readFully(file, chunk, offset, path);
    yield chunk;
  }
}

function readFully(file: Fd, target: Uint8Array, offset: number, path: string): void {
  for (let done = 0; done < target.length; ) {
    const count = pread(file, target.subarray(done), offset + done);
    if (count === 0)
      throw new FormatError("truncated", `"${path}" became shorter while it was read`, { path });
    done += count;
  }
}

/**
 * The entry with the arguments its kernel gets: of a unified kernel they stand in it. Null for an entry that
 * starts no unified kernel; throws what opening it throws.
 */
export function readUkiCmdline(entry: BootEntry, layout: BootLayout): string | null {
  const { target } = entry.entry;
  if (target.kind !== "efi" || layout.ukiPath === null) return null;
  using kernel = openUki(join(layout.ukiPath, target.path));
  return kernel.readText(".cmdline") ?? "";
}

function openFile(path: string): Fd {
  const file = openRegularFile(null, path);
  if (file !== null) return file;
  throw new FormatError("bad-value", `"${path}" is no unified kernel: it is no regular file`, {
    path,
  });
}

function readSections(head: Uint8Array, sizeBytes: number, path: string): readonly PeSection[] {
  try {
    return parsePeSections(head, sizeBytes);
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(cause.code, `"${path}" is no unified kernel`, { path }, { cause });
  }
}
