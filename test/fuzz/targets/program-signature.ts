// Fuzz target: the place of signatures in EFI programs. A program is the same as itself, and as itself with another
// signature; it is another one when any byte of it changes.

import type { ByteFile } from "../../../shared/format/uki/reader.ts";
import { findProgramDifference, isSignedProgram } from "../../../shared/format/uki/signature.ts";
import { buildUki } from "../../support/uki-builder.ts";
import { checkEqual, type FuzzTarget } from "../target.ts";

const OPTIONAL_AT = 128 + 24;
const PE32_PLUS = 0x20b;

const asFile = (bytes: Uint8Array): ByteFile => ({
  name: "x.efi",
  sizeBytes: bytes.length,
  readAt: (target, offset) => {
    const part = bytes.subarray(offset, offset + target.length);
    target.set(part);
    return part.length;
  },
});

function makeProgram(signature: string): Uint8Array {
  const program = Buffer.from(buildUki([[".linux", "kernel"]]));
  const signed = Buffer.concat([program, Buffer.from(signature)]);
  signed.writeUInt16LE(PE32_PLUS, OPTIONAL_AT);
  signed.writeUInt32LE(16, OPTIONAL_AT + 108);
  if (signature === "") return signed;
  signed.writeUInt32LE(program.length, OPTIONAL_AT + 144);
  signed.writeUInt32LE(signature.length, OPTIONAL_AT + 148);
  return signed;
}

export const target: FuzzTarget = {
  focus: /^shared\/format\/uki\/signature\.ts/,
  maxBytes: 4096,
  seeds: () => [makeProgram(""), makeProgram("signature"), makeProgram("s".repeat(600))],
  check(input) {
    const file = asFile(input);
    const isSigned = isSignedProgram(file);
    checkEqual(findProgramDifference(file, file) === null, true, "The same program");
    if (!isSigned) return true;
    const other = Uint8Array.from(input);
    other[other.length - 1]! ^= 1;
    checkEqual(findProgramDifference(file, asFile(other)) === null, true, "Another signature");
    const changed = Uint8Array.from(input);
    changed[4]! ^= 1;
    checkEqual(findProgramDifference(file, asFile(changed)) ?? -1, 4, "A changed byte");
    return true;
  },
};
