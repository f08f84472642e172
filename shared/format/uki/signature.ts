// Where an EFI program carries its Secure Boot signatures (Microsoft "PE Format", "The Attribute Certificate
// Table"; "Windows Authenticode Portable Executable Signature Format"), and whether two files are the same program
// but for them.
//
// Signing appends a table, writes its place into the headers and corrects a checksum: nothing else may differ.

import { FormatError } from "../../error.ts";
import { PE_HEADER_BYTES } from "./pe.ts";
import type { ByteFile } from "./reader.ts";

/** "MZ" */
const DOS_MAGIC = 0x5a4d;
const PE32 = 0x10b;
const PE32_PLUS = 0x20b;
const CHECKSUM_AT = 64;
/** Of the certificate table's entry among the data directories, from the first. */
const SECURITY_INDEX = 4;
const COMPARED_BYTES = 1 << 20;
/** A table begins at a multiple of this. */
const ALIGNMENT = 8;
/** Real ones have a few KiB. */
const TABLE_LIMIT_BYTES = 1 << 20;

interface SignaturePlace {
  readonly checksumAt: number;
  readonly directoryAt: number;
  /** Length of the program itself. */
  readonly programBytes: number;
}

/** FormatError when the file is no EFI program, or has bytes that no signature covers. */
export function isSignedProgram(file: ByteFile): boolean {
  return findSignatures(file).programBytes < file.sizeBytes;
}

/** The whole table of signatures, empty when there is none. FormatError as `isSignedProgram`, and over 1 MiB. */
export function readSignatureTable(file: ByteFile): Uint8Array {
  const { programBytes } = findSignatures(file);
  const sizeBytes = file.sizeBytes - programBytes;
  if (sizeBytes > TABLE_LIMIT_BYTES) throw malformed(file, "has signatures of more than 1 MiB");
  const table = new Uint8Array(sizeBytes);
  for (let done = 0; done < sizeBytes; ) {
    const got = file.readAt(table.subarray(done), programBytes + done);
    if (got === 0) throw malformed(file, "became shorter while it was read", "truncated");
    done += got;
  }
  return table;
}

/** Offset of the first byte that differs apart from signatures; null when there is none. FormatError. */
export function findProgramDifference(one: ByteFile, other: ByteFile): number | null {
  const places = [findSignatures(one), findSignatures(other)] as const;
  const [a, b] = places;
  const end = Math.max(a.programBytes, b.programBytes);
  // A signer pads the program up to the table.
  const shorter = Math.min(a.programBytes, b.programBytes);
  if (end - shorter >= ALIGNMENT) return shorter;
  const pieceBytes = Math.min(COMPARED_BYTES, end);
  const buffers = [new Uint8Array(pieceBytes), new Uint8Array(pieceBytes)] as const;
  for (let offset = 0; offset < end; offset += COMPARED_BYTES) {
    const count = Math.min(COMPARED_BYTES, end - offset);
    readMasked(one, a, buffers[0], offset, count);
    readMasked(other, b, buffers[1], offset, count);
    if (Buffer.compare(buffers[0].subarray(0, count), buffers[1].subarray(0, count)) === 0)
      continue;
    for (let i = 0; i < count; i++) if (buffers[0][i] !== buffers[1][i]) return offset + i;
  }
  return null;
}

/** Bytes of the program with zeros where a signer writes, and after its end. */
function readMasked(
  file: ByteFile,
  place: SignaturePlace,
  target: Uint8Array,
  offset: number,
  count: number,
): void {
  target.fill(0);
  const available = Math.max(0, Math.min(count, place.programBytes - offset));
  for (let done = 0; done < available; ) {
    const got = file.readAt(target.subarray(done, available), offset + done);
    if (got === 0) throw malformed(file, "became shorter while it was read", "truncated");
    done += got;
  }
  const masked = [
    [place.checksumAt, 4],
    [place.directoryAt, 8],
  ] as const;
  for (const [at, length] of masked) {
    const [start, end] = [Math.max(at - offset, 0), Math.min(at + length - offset, count)];
    if (start < end) target.fill(0, start, end);
  }
}

function findSignatures(file: ByteFile): SignaturePlace {
  const head = new Uint8Array(Math.min(file.sizeBytes, PE_HEADER_BYTES));
  for (let done = 0; done < head.length; ) {
    const got = file.readAt(head.subarray(done), done);
    if (got === 0) throw malformed(file, "became shorter while it was read", "truncated");
    done += got;
  }
  const view = new DataView(head.buffer);
  const need = (end: number) => {
    if (end > head.length) throw malformed(file, "has no complete headers", "truncated");
  };
  if (head.length > 1 && view.getUint16(0, true) !== DOS_MAGIC) {
    throw malformed(file, "is no EFI program");
  }
  need(64);
  const optionalAt = view.getUint32(60, true) + 24;
  need(optionalAt + 2);
  const magic = view.getUint16(optionalAt, true);
  if (magic !== PE32 && magic !== PE32_PLUS) throw malformed(file, "is no EFI program");
  const directoriesAt = optionalAt + (magic === PE32 ? 96 : 112);
  const directoryAt = directoriesAt + SECURITY_INDEX * 8;
  need(directoryAt + 8);
  const checksumAt = optionalAt + CHECKSUM_AT;
  if (view.getUint32(directoriesAt - 4, true) <= SECURITY_INDEX) {
    throw malformed(file, "has no place for signatures");
  }
  const tableAt = view.getUint32(directoryAt, true);
  const tableBytes = view.getUint32(directoryAt + 4, true);
  if (tableAt === 0 && tableBytes === 0) {
    return { checksumAt, directoryAt, programBytes: file.sizeBytes };
  }
  if (tableAt < directoryAt + 8 || tableAt + tableBytes !== file.sizeBytes || tableBytes === 0) {
    throw malformed(file, "has its signatures in a place other than its end");
  }
  return { checksumAt, directoryAt, programBytes: tableAt };
}

function malformed(
  { name }: ByteFile,
  problem: string,
  code: "bad-value" | "truncated" = "bad-value",
): FormatError {
  return new FormatError(code, `"${name}" ${problem}`, { format: "pe", path: name });
}
