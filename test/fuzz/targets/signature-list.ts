// Fuzz target: lists of Secure Boot keys, as the firmware's variables have them. What is found are parts of the input,
// one behind the other.

import { parseSignatureLists } from "../../../shared/format/uki/signature-list.ts";
import { type FuzzTarget, PropertyError } from "../target.ts";

const X509 = "a159c0a5e494a74a87b5ab155c2bf072";
const SHA256 = "2616c4c14c509240aca941f936934328";
const OWNER_BYTES = 16;

function makeList(type: string, entries: readonly string[]): Buffer {
  const header = Buffer.alloc(28);
  header.write(type, "hex");
  const entryBytes = OWNER_BYTES + entries[0]!.length;
  header.writeUInt32LE(header.length + entries.length * entryBytes, 16);
  header.writeUInt32LE(entryBytes, 24);
  const owner = Buffer.alloc(OWNER_BYTES, 1);
  return Buffer.concat([header, ...entries.flatMap((entry) => [owner, Buffer.from(entry)])]);
}

export const target: FuzzTarget = {
  focus: /^shared\/format\/uki\/signature-list\.ts/,
  maxBytes: 2048,
  seeds: () => [
    makeList(X509, ["certificate"]),
    makeList(SHA256, ["h".repeat(32), "i".repeat(32)]),
    Buffer.concat([makeList(X509, ["one"]), makeList(SHA256, ["two"]), makeList(X509, ["three"])]),
  ],
  check(input) {
    let end = input.byteOffset;
    for (const certificate of parseSignatureLists(input).certificates) {
      if (certificate.byteOffset < end) throw new PropertyError("Two certificates overlap");
      end = certificate.byteOffset + certificate.length;
    }
    if (end > input.byteOffset + input.length) throw new PropertyError("Beyond the input");
    return true;
  },
};
