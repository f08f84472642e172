// The sections of a unified kernel image, a PE/COFF program (UAPI.5 "Unified Kernel Image"; Microsoft's
// "PE Format"): where they lie in the file. Reads headers only; contents are the caller's to fetch.
//
// Every offset is checked against the file's length, no two sections share bytes, and there is one of each
// name, so that what one reader takes for the kernel is what every reader takes for it. Of an image with
// several profiles the first is described: it is what starts by default.

import { bytes, constant, ignored, struct, u16, u32 } from "../../bytes/layout.ts";
import { FormatError } from "../../error.ts";

const DosHeader = struct("DosHeader", 64, {
  magic: constant(u16, 0x5a4d),
  unused: ignored(58),
  peOffset: u32,
});
const CoffHeader = struct("CoffHeader", 24, {
  signature: constant(u32, 0x4550),
  machine: u16,
  sectionCount: u16,
  unused: ignored(12),
  optionalSizeBytes: u16,
  characteristics: u16,
});
const SectionHeader = struct("SectionHeader", 40, {
  name: bytes(8),
  virtualSizeBytes: u32,
  virtualAddress: u32,
  rawSizeBytes: u32,
  rawOffset: u32,
  unused: ignored(16),
});

/** Real ones have about a dozen. */
const SECTION_LIMIT = 96;
/** Bytes from the file's beginning that hold all headers of any image this reads. */
export const PE_HEADER_BYTES = 64 * 1024;

export interface PeSection {
  /** e.g. ".linux" */
  readonly name: string;
  readonly offset: number;
  /** Without the padding to the next file block. */
  readonly sizeBytes: number;
}

/**
 * `head` is the file's beginning, at least PE_HEADER_BYTES or all of it; `fileSizeBytes` the whole length.
 * FormatError for anything that is not a well-formed PE file.
 */
export function parsePeSections(head: Uint8Array, fileSizeBytes: number): readonly PeSection[] {
  const { peOffset } = DosHeader.decode(head);
  const coff = CoffHeader.decode(head, peOffset);
  if (coff.sectionCount > SECTION_LIMIT) {
    throw malformed("limit", `has ${coff.sectionCount} sections`, peOffset);
  }
  const table = peOffset + CoffHeader.sizeBytes + coff.optionalSizeBytes;
  const sections: PeSection[] = [];
  for (let i = 0; i < coff.sectionCount; i += 1) {
    const at = table + i * SectionHeader.sizeBytes;
    const { name, rawOffset, ...sizes } = SectionHeader.decode(head, at);
    // The size in memory is the true one; what is longer there is filled with zeros, which no UKI needs.
    const sizeBytes = Math.min(sizes.virtualSizeBytes, sizes.rawSizeBytes);
    if (rawOffset + sizeBytes > fileSizeBytes) {
      throw malformed("truncated", `ends before its section ${i} does`, at);
    }
    sections.push({ name: readName(name), offset: rawOffset, sizeBytes });
  }
  checkApart(sections);
  return chooseProfile(sections);
}

function readName(raw: Uint8Array): string {
  return Buffer.from(raw).toString("latin1").replace(/\0.*$/s, "");
}

/** There may be many of these in one image. */
const REPEATED = new Set(["", ".dtbauto", ".efifw"]);

/** The sections all profiles share, and instead of those the first profile's. */
function chooseProfile(sections: readonly PeSection[]): readonly PeSection[] {
  const starts = sections.flatMap(({ name }, i) => (name === ".profile" ? [i] : []));
  const shared = sections.slice(0, starts[0] ?? sections.length);
  const own = starts[0] === undefined ? [] : sections.slice(starts[0], starts[1]);
  for (const group of [shared, own]) {
    const names = group.map(({ name }) => name).filter((name) => !REPEATED.has(name));
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw malformed("bad-value", `has the section "${twice}" twice`, 0);
  }
  const replaced = new Set(own.map(({ name }) => name));
  return [...shared.filter(({ name }) => !replaced.has(name)), ...own];
}

function checkApart(sections: readonly PeSection[]): void {
  const filled = sections.filter(({ sizeBytes }) => sizeBytes > 0);
  const ordered = [...filled].sort((a, b) => a.offset - b.offset);
  for (const [i, section] of ordered.entries()) {
    const previous = ordered[i - 1];
    if (previous !== undefined && previous.offset + previous.sizeBytes > section.offset) {
      throw malformed(
        "bad-value",
        `has sections that overlap, "${previous.name}" and "${section.name}"`,
        section.offset,
      );
    }
  }
}

function malformed(
  code: "limit" | "truncated" | "bad-value",
  reason: string,
  offset: number,
): FormatError {
  return new FormatError(code, `The EFI program ${reason}`, { format: "pe", offset });
}
