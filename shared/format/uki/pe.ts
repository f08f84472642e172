// The sections of a unified kernel image, a PE/COFF program (UAPI.5 "Unified Kernel Image"; Microsoft's
// "PE Format"): where they lie in the file. Reads headers only; contents are the caller's to fetch.
//
// Every offset is checked against the file's length, no two sections share bytes, in the file or in memory, and there
// is one of each name, so that what one reader takes for the kernel is what every reader takes for it, firmware too.
// Of an image with several profiles the first is what starts by default.

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
const Magic = struct("Magic", 2, { magic: u16 });
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

/** Of its machines those that start Linux, as `process.arch` names them. */
const ARCHITECTURES: ReadonlyMap<number, string> = new Map([
  [0x8664, "x64"],
  [0xaa64, "arm64"],
  [0x14c, "ia32"],
  [0x1c0, "arm"],
  [0x1c2, "arm"],
  [0x1c4, "arm"],
  [0x5064, "riscv64"],
  [0x6264, "loong64"],
]);
/** Of the optional header: a program for 32 bits. */
const PE32 = 0x10b;

export interface PeProgram {
  /** As `process.arch` names it; null for one that is not known. */
  readonly architecture: string | null;
  /** What each of its profiles has, together with what they share; one when there are none. */
  readonly profiles: readonly [PeSections, ...PeSections[]];
}

export type PeSections = readonly PeSection[];

export interface PeSection {
  /** e.g. ".linux" */
  readonly name: string;
  readonly offset: number;
  /** Without the padding to the next file block. */
  readonly sizeBytes: number;
}

/** A section with its place in memory. */
interface PlacedSection extends PeSection {
  readonly address: number;
  readonly memoryBytes: number;
}

/**
 * `head` is the file's beginning, at least PE_HEADER_BYTES or all of it; `fileSizeBytes` the whole length.
 * FormatError for anything that is not a well-formed PE file.
 */
export function parsePeProgram(head: Uint8Array, fileSizeBytes: number): PeProgram {
  const { peOffset } = DosHeader.decode(head);
  const coff = CoffHeader.decode(head, peOffset);
  if (coff.sectionCount > SECTION_LIMIT) {
    throw malformed("limit", `has ${coff.sectionCount} sections`, peOffset);
  }
  const optional = peOffset + CoffHeader.sizeBytes;
  const architecture = ARCHITECTURES.get(coff.machine) ?? null;
  if (coff.optionalSizeBytes >= u16.sizeBytes && architecture?.endsWith("64") === true) {
    if (Magic.decode(head, optional).magic === PE32) {
      throw malformed("bad-value", "is written for 32 bits (PE32)", optional);
    }
  }
  const table = optional + coff.optionalSizeBytes;
  const sections = Array.from({ length: coff.sectionCount }, (_, index) =>
    readSection(head, table + index * SectionHeader.sizeBytes, index, fileSizeBytes),
  );
  checkApart(sections.map((section) => ({ ...section, start: section.offset })));
  checkMemory(sections);
  const plain = sections.map(({ name, offset, sizeBytes }) => ({ name, offset, sizeBytes }));
  return { architecture, profiles: splitProfiles(plain) };
}

function readSection(
  head: Uint8Array,
  at: number,
  index: number,
  fileSizeBytes: number,
): PlacedSection {
  const { name, rawOffset, ...sizes } = SectionHeader.decode(head, at);
  // The size in memory is the true one; what is longer there is filled with zeros, which no UKI needs.
  const sizeBytes = Math.min(sizes.virtualSizeBytes, sizes.rawSizeBytes);
  if (rawOffset + sizeBytes > fileSizeBytes) {
    throw malformed("truncated", `ends before its section ${index} does`, at);
  }
  const [address, memoryBytes] = [sizes.virtualAddress, sizes.virtualSizeBytes];
  return { name: readName(name), offset: rawOffset, sizeBytes, address, memoryBytes };
}

function readName(raw: Uint8Array): string {
  return Buffer.from(raw).toString("latin1").replace(/\0.*$/s, "");
}

/** There may be many of these in one image. */
const REPEATED = new Set(["", ".dtbauto", ".efifw"]);

/** Of each profile: the sections all share, and instead of those its own. */
function splitProfiles(sections: PeSections): PeProgram["profiles"] {
  const starts = sections.flatMap(({ name }, i) => (name === ".profile" ? [i] : []));
  const shared = sections.slice(0, starts[0] ?? sections.length);
  checkNames(shared);
  const [first, ...others] = starts.map((start, i) => sections.slice(start, starts[i + 1]));
  const complete = (own: PeSections): PeSections => {
    checkNames(own);
    const replaced = new Set(own.map(({ name }) => name));
    return [...shared.filter(({ name }) => !replaced.has(name)), ...own];
  };
  return [complete(first ?? []), ...others.map(complete)];
}

function checkNames(sections: PeSections): void {
  const names = sections.map(({ name }) => name).filter((name) => !REPEATED.has(name));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw malformed("bad-value", `has the section "${twice}" twice`, 0);
}

/** Firmware reads what is in memory, where the later of two would lie over the earlier. */
function checkMemory(sections: readonly PlacedSection[]): void {
  const placed = sections.filter(({ address }) => address > 0);
  checkApart(
    placed.map(({ name, address, memoryBytes }) => ({
      ...{ name, start: address, sizeBytes: memoryBytes },
    })),
  );
}

function checkApart(
  sections: readonly {
    readonly name: string;
    readonly start: number;
    readonly sizeBytes: number;
  }[],
): void {
  const filled = sections.filter(({ sizeBytes }) => sizeBytes > 0);
  const ordered = [...filled].sort((a, b) => a.start - b.start);
  for (const [i, section] of ordered.entries()) {
    const previous = ordered[i - 1];
    if (previous !== undefined && previous.start + previous.sizeBytes > section.start) {
      throw malformed(
        "bad-value",
        `has sections that overlap, "${previous.name}" and "${section.name}"`,
        section.start,
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
