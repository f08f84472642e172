// Reading a unified kernel (UAPI.5) wherever its bytes lie: headers once, sections on demand. What reads the
// bytes is the caller's; nothing is run, and every length is bounded before memory is taken.

import { FormatError } from "../../error.ts";
import { PE_HEADER_BYTES, type PeProgram, type PeSection, parsePeProgram } from "./pe.ts";

const TEXT_LIMIT_BYTES = 256 * 1024;
const CHUNK_BYTES = 1024 * 1024;

/** Bytes that can be read from anywhere in them. */
export interface ByteFile {
  /** For messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills the beginning of `target` with bytes from `offset` on; how many it were, 0 at the end. */
  readonly readAt: (target: Uint8Array, offset: number) => number;
}

export interface UnifiedKernel {
  /** As `process.arch` names it; null for one that is not known. */
  readonly architecture: string | null;
  /** Of its first profile. */
  readonly sections: readonly PeSection[];
  /** Text of a section, without what fills it up; null when there is none. FormatError over 256 KiB. */
  readonly readText: (name: string) => string | null;
  /** The same of the other profiles, of each that has such a section. */
  readonly readOtherTexts: (name: string) => readonly string[];
  /** The section's bytes in pieces; FormatError when there is none. */
  readonly readChunks: (name: string) => Iterable<Uint8Array>;
}

/** A unified kernel that has to be closed. */
export interface OpenUnifiedKernel extends UnifiedKernel, Disposable {}

/** FormatError when the file is no PE program. */
export function readUki(file: ByteFile): UnifiedKernel {
  const head = new Uint8Array(Math.min(file.sizeBytes, PE_HEADER_BYTES));
  readFully(file, head, 0);
  const { architecture, profiles } = readProgram(head, file);
  const [sections, ...others] = profiles;
  const findIn = (profile: readonly PeSection[], name: string) =>
    profile.find((section) => section.name === name) ?? null;
  const find = (name: string) => findIn(sections, name);
  return {
    architecture,
    sections,
    readText: (name) => readText(file, find(name)),
    readOtherTexts: (name) =>
      others.flatMap((profile) => readText(file, findIn(profile, name)) ?? []),
    readChunks: (name) => {
      const section = find(name);
      if (section !== null) return readChunks(file, section);
      throw new FormatError("not-found", `"${file.name}" has no section "${name}"`, {
        path: file.name,
      });
    },
  };
}

function readText(file: ByteFile, section: PeSection | null): string | null {
  if (section === null) return null;
  if (section.sizeBytes > TEXT_LIMIT_BYTES) {
    throw new FormatError(
      "limit",
      `Section "${section.name}" of "${file.name}" is larger than 256 KiB`,
      { path: file.name },
    );
  }
  const bytes = new Uint8Array(section.sizeBytes);
  readFully(file, bytes, section.offset);
  return Buffer.from(bytes).toString("utf8").replace(/\0+$/, "").trim();
}

function* readChunks(file: ByteFile, section: PeSection): Generator<Uint8Array> {
  const end = section.offset + section.sizeBytes;
  for (let offset = section.offset; offset < end; offset += CHUNK_BYTES) {
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - offset));
    readFully(file, chunk, offset);
    yield chunk;
  }
}

function readFully(file: ByteFile, target: Uint8Array, offset: number): void {
  for (let done = 0; done < target.length; ) {
    const count = file.readAt(target.subarray(done), offset + done);
    if (count === 0) {
      throw new FormatError("truncated", `"${file.name}" became shorter while it was read`, {
        path: file.name,
      });
    }
    done += count;
  }
}

function readProgram(head: Uint8Array, { name, sizeBytes }: ByteFile): PeProgram {
  try {
    return parsePeProgram(head, sizeBytes);
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(cause.code, `"${name}" is no unified kernel`, { path: name }, { cause });
  }
}
