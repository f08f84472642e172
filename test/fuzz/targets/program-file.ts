// Fuzz target: the ELF reader of read-ahead, which answers "nothing" to anything odd.

import { readProgramNeeds } from "../../../initrd/program-file.ts";
import { checkEqual, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^initrd\/program-file\.ts/,
  maxBytes: 4096,
  errors: [],
  seeds: () => [makeProgram()],
  check(input) {
    const needs = readProgramNeeds((offset, length) => input.subarray(offset, offset + length));
    checkEqual(Array.isArray(needs.libraries) && Array.isArray(needs.searchPath), true, "Lists");
    return needs.interpreter !== null;
  },
};

/** Header, three segments (interpreter, dynamic, load), dynamic table, strings. */
function makeProgram(): Uint8Array {
  const bytes = Buffer.alloc(512);
  const put = (at: number, value: number) => bytes.writeBigUInt64LE(BigInt(value), at);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  put(32, 64);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(3, 56);
  const segment = (index: number, type: number, offset: number, size: number) => {
    const at = 64 + 56 * index;
    bytes.writeUInt32LE(type, at);
    put(at + 8, offset);
    put(at + 16, offset);
    put(at + 32, size);
  };
  segment(0, 3, 400, 12);
  segment(1, 2, 300, 80);
  segment(2, 1, 0, 512);
  const dynamic: readonly (readonly [tag: number, value: number])[] = [
    [1, 1],
    [29, 11],
    [5, 420],
    [10, 30],
  ];
  for (const [i, [tag, value]] of dynamic.entries()) {
    put(300 + 16 * i, tag);
    put(308 + 16 * i, value);
  }
  bytes.write("/lib/ld.so\0", 400);
  bytes.write("\0libc.so.6\0/usr/lib:/lib\0", 420);
  return bytes;
}
