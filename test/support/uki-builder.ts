// Unified kernels made by hand: a PE file with the sections that are asked for, each filling whole blocks.

const BLOCK_BYTES = 512;
const PE_OFFSET = 128;
const OPTIONAL_BYTES = 240;
const PAGE_BYTES = 4096;
/** This machine's (Microsoft "PE Format", "Machine Types"). */
const MACHINE = process.arch === "arm64" ? 0xaa64 : 0x8664;

export type UkiSections = readonly (readonly [name: string, content: string | Uint8Array])[];

export function buildUki(sections: UkiSections): Uint8Array {
  const contents = sections.map(([, content]) => Buffer.from(content as string));
  const headerBytes = roundUp(PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * sections.length);
  const size = contents.reduce((sum, content) => sum + roundUp(content.length), headerBytes);
  const file = Buffer.alloc(size);
  file.write("MZ", 0, "latin1");
  file.writeUInt32LE(PE_OFFSET, 60);
  file.write("PE\0\0", PE_OFFSET, "latin1");
  file.writeUInt16LE(MACHINE, PE_OFFSET + 4);
  file.writeUInt16LE(sections.length, PE_OFFSET + 6);
  file.writeUInt16LE(OPTIONAL_BYTES, PE_OFFSET + 20);
  // PE32+, with places for 16 directories, of which signatures are one.
  file.writeUInt16LE(0x20b, PE_OFFSET + 24);
  file.writeUInt32LE(16, PE_OFFSET + 24 + 108);
  let offset = headerBytes;
  let address = PAGE_BYTES;
  for (const [i, content] of contents.entries()) {
    const at = PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * i;
    file.write(sections[i]![0], at, 8, "latin1");
    file.writeUInt32LE(content.length, at + 8);
    file.writeUInt32LE(address, at + 12);
    file.writeUInt32LE(roundUp(content.length), at + 16);
    file.writeUInt32LE(offset, at + 20);
    content.copy(file, offset);
    offset += roundUp(content.length);
    address += Math.ceil(Math.max(content.length, 1) / PAGE_BYTES) * PAGE_BYTES;
  }
  return new Uint8Array(file);
}

/** Byte offset of the machine that it is for. */
export const MACHINE_AT = PE_OFFSET + 4;
/** Byte offset of the optional header. */
export const OPTIONAL_AT = PE_OFFSET + 24;

/** Byte offset of the header of section `index`, for tests that damage it. */
export function sectionHeaderAt(index: number): number {
  return PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * index;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
