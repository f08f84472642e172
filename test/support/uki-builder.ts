// Unified kernels made by hand: a PE file with the sections that are asked for, each filling whole blocks.

const BLOCK_BYTES = 512;
const PE_OFFSET = 128;
const OPTIONAL_BYTES = 240;

export type UkiSections = readonly (readonly [name: string, content: string | Uint8Array])[];

export function buildUki(sections: UkiSections): Uint8Array {
  const contents = sections.map(([, content]) => Buffer.from(content as string));
  const headerBytes = roundUp(PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * sections.length);
  const size = contents.reduce((sum, content) => sum + roundUp(content.length), headerBytes);
  const file = Buffer.alloc(size);
  file.write("MZ", 0, "latin1");
  file.writeUInt32LE(PE_OFFSET, 60);
  file.write("PE\0\0", PE_OFFSET, "latin1");
  file.writeUInt16LE(0x8664, PE_OFFSET + 4);
  file.writeUInt16LE(sections.length, PE_OFFSET + 6);
  file.writeUInt16LE(OPTIONAL_BYTES, PE_OFFSET + 20);
  let offset = headerBytes;
  for (const [i, content] of contents.entries()) {
    const at = PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * i;
    file.write(sections[i]![0], at, 8, "latin1");
    file.writeUInt32LE(content.length, at + 8);
    file.writeUInt32LE(roundUp(content.length), at + 16);
    file.writeUInt32LE(offset, at + 20);
    content.copy(file, offset);
    offset += roundUp(content.length);
  }
  return new Uint8Array(file);
}

/** Byte offset of the header of section `index`, for tests that damage it. */
export function sectionHeaderAt(index: number): number {
  return PE_OFFSET + 24 + OPTIONAL_BYTES + 40 * index;
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
