// Just enough ELF (64-bit, little-endian) to find and resize sections of a Bun executable.
//
// Source: the ELF-64 object file format (System V gABI, chapter 4); struct names are those of elf.h.
// Only the build uses this, on a file it knows; nothing here is reachable from the product.

import { bytes, constant, type Infer, struct, u16, u32, u64n } from "../../shared/bytes/layout.ts";
import { FormatError } from "../../shared/error.ts";

export const ElfHeader = struct("Elf64_Ehdr", 64, {
  magic: constant(u32, 0x464c457f),
  fileClass: constant(u16, 0x0102), // ELFCLASS64, ELFDATA2LSB
  identRest: bytes(10),

  type: u16,
  machine: u16,
  version: u32,
  entry: u64n,

  programHeaderOffset: u64n,
  sectionHeaderOffset: u64n,

  flags: u32,
  headerSizeBytes: u16,
  programHeaderSizeBytes: u16,
  programHeaderCount: u16,
  sectionHeaderSizeBytes: constant(u16, 64),
  sectionHeaderCount: u16,
  sectionNamesIndex: u16,
});

const SectionHeader = struct("Elf64_Shdr", 64, {
  nameOffset: u32,
  type: u32,
  flags: u64n,

  address: u64n,
  offset: u64n,

  sizeBytes: u64n,
  link: u32,
  info: u32,

  alignment: u64n,
  entrySizeBytes: u64n,
});

/** Machine numbers of `e_machine` that Bun is built for. */
export const MACHINE = { x64: 62, arm64: 183 } as const;

export interface Section extends Infer<typeof SectionHeader> {
  readonly name: string;
  /** Where the section's own header lies in the file. */
  readonly headerOffset: number;
}

export interface ElfFile {
  readonly machine: number;
  readonly sections: readonly Section[];
}

/** Reads the section table; FormatError when `file` is no ELF-64 file. */
export function readElf(file: Uint8Array): ElfFile {
  const header = ElfHeader.decode(file);
  const headers = Array.from({ length: header.sectionHeaderCount }, (_, index) => {
    const headerOffset = header.sectionHeaderOffset + index * SectionHeader.sizeBytes;
    return { ...SectionHeader.decode(file, headerOffset), headerOffset };
  });
  const names = headers[header.sectionNamesIndex];
  if (names === undefined) throw new FormatError("bad-value", "ELF file has no section names");
  const sections = headers.map((section) => {
    const start = names.offset + section.nameOffset;
    return {
      ...section,
      name: Buffer.from(file.subarray(start, file.indexOf(0, start))).toString(),
    };
  });
  return { machine: header.machine, sections };
}

/** The section called `name`; FormatError when there is none. */
export function findSection(elf: ElfFile, name: string): Section {
  const section = elf.sections.find((candidate) => candidate.name === name);
  if (section === undefined)
    throw new FormatError("not-found", `ELF file has no section "${name}"`);
  return section;
}

/** Changes the recorded size of a section in place; its bytes stay where they are. */
export function resizeSection(file: Uint8Array, section: Section, sizeBytes: number): void {
  const { name: _name, headerOffset, ...header } = section;
  SectionHeader.encodeInto(file, headerOffset, { ...header, sizeBytes });
}
