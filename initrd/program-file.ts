// What an ELF program needs to start: its interpreter and its libraries (System V gABI, ELF-64).
//
// Used only to know which files to read ahead: for anything odd the answer is "nothing", never an
// error. Little-endian only, as every machine Bun runs on.

import { bytes, type Infer, ignored, struct, u16, u32, u64n } from "../shared/bytes/layout.ts";

export interface ProgramNeeds {
  readonly interpreter: string | null;
  readonly libraries: readonly string[];
  /** Directories of DT_RUNPATH and DT_RPATH, searched first. */
  readonly searchPath: readonly string[];
}
/** Reads up to `length` bytes at `offset`; fewer at the end of the file. */
export type ReadAt = (offset: number, length: number) => Uint8Array;

const ElfHeader = struct("Elf64_Ehdr", 64, {
  ident: bytes(16),

  type: u16,
  machine: u16,
  version: u32,
  entry: ignored(8),

  programHeaderOffset: u64n,
  sectionHeaderOffset: ignored(8),

  flags: u32,
  headerSize: u16,
  programHeaderSize: u16,
  programHeaderCount: u16,
  sections: ignored(6),
});
const ProgramHeader = struct("Elf64_Phdr", 56, {
  type: u32,
  flags: u32,
  offset: u64n,

  virtualAddress: u64n,
  physicalAddress: ignored(8),

  fileSize: u64n,
  memorySize: ignored(8),

  align: ignored(8),
});
/** Elf64_Dyn. */
const DYNAMIC_ENTRY_BYTES = 16;

const IDENT = [0x7f, 0x45, 0x4c, 0x46, 2, 1]; // magic, 64 bits, little-endian
const SEGMENT = { LOAD: 1, DYNAMIC: 2, INTERP: 3 } as const;
const TAG = { NEEDED: 1, STRTAB: 5, STRSZ: 10, RPATH: 15, RUNPATH: 29 } as const;
const MAX_TABLE_BYTES = 1 << 20;

const NOTHING: ProgramNeeds = { interpreter: null, libraries: [], searchPath: [] };

export function readProgramNeeds(readAt: ReadAt): ProgramNeeds {
  try {
    const header = readAt(0, ElfHeader.sizeBytes);
    if (!IDENT.every((byte, index) => header[index] === byte)) return NOTHING;
    return readNeeds(readAt, ElfHeader.decode(header));
  } catch (error) {
    // Only what the layouts say about malformed bytes; a failed read is the caller's concern.
    if (error instanceof Error && "kind" in error && error.kind === "format") return NOTHING;
    throw error;
  }
}

function readNeeds(readAt: ReadAt, header: Infer<typeof ElfHeader>): ProgramNeeds {
  const size = header.programHeaderCount * ProgramHeader.sizeBytes;
  const raw = readAt(header.programHeaderOffset, size);
  const segments = Array.from({ length: header.programHeaderCount }, (_, index) =>
    ProgramHeader.decode(raw, index * ProgramHeader.sizeBytes),
  );
  const contentOf = (type: number) => {
    const segment = segments.find((other) => other.type === type);
    return segment === undefined ? null : readBounded(readAt, segment.offset, segment.fileSize);
  };
  const interpreter = contentOf(SEGMENT.INTERP);
  const dynamic = readDynamic(contentOf(SEGMENT.DYNAMIC) ?? new Uint8Array());
  const address = dynamic.find(({ tag }) => tag === TAG.STRTAB)?.value ?? 0;
  const home = segments.find(
    ({ type, virtualAddress: start, fileSize }) =>
      type === SEGMENT.LOAD && address >= start && address < start + fileSize,
  );
  const length = dynamic.find(({ tag }) => tag === TAG.STRSZ)?.value ?? 0;
  const strings =
    home === undefined
      ? new Uint8Array()
      : readBounded(readAt, home.offset + address - home.virtualAddress, length);
  const textsOf = (...tags: readonly number[]) =>
    dynamic.filter(({ tag }) => tags.includes(tag)).map(({ value }) => textAt(strings, value));
  return {
    interpreter: interpreter === null ? null : textAt(interpreter, 0),
    libraries: textsOf(TAG.NEEDED),
    searchPath: textsOf(TAG.RUNPATH, TAG.RPATH).flatMap((text) => text.split(":")),
  };
}

function readBounded(readAt: ReadAt, offset: number, length: number): Uint8Array {
  return length > MAX_TABLE_BYTES ? new Uint8Array() : readAt(offset, length);
}

function readDynamic(raw: Uint8Array): { tag: number; value: number }[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const entries: { tag: number; value: number }[] = [];
  for (let at = 0; at + DYNAMIC_ENTRY_BYTES <= raw.length; at += DYNAMIC_ENTRY_BYTES) {
    const tag = Number(view.getBigUint64(at, true));
    if (tag === 0) break;
    entries.push({ tag, value: Number(view.getBigUint64(at + 8, true)) });
  }
  return entries;
}

function textAt(raw: Uint8Array, start: number): string {
  const end = raw.indexOf(0, start);
  return Buffer.from(raw.subarray(start, end < 0 ? raw.length : end)).toString("utf8");
}
