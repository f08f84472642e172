// Numbers in ostree's objects are big-endian inside GVariants that are little-endian: what the serialiser
// takes and gives has its bytes turned round (ostree.md 4.2).

import { FormatError } from "../../error.ts";

/** Its own inverse. */
export function swap32(value: number): number {
  return (
    ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0
  );
}

/** A number as it is handed to the serialiser as type t. */
export function swap64(value: bigint): bigint {
  const high = BigInt(swap32(Number(value & 0xffffffffn)));
  return (high << 32n) | BigInt(swap32(Number(value >> 32n)));
}

/** As `swap64`, to a safe integer; `what` names the field. */
export function swapToNumber(value: bigint, what: string): number {
  const number = Number(swap64(value));
  if (Number.isSafeInteger(number)) return number;
  throw new FormatError("bad-value", `${what} is ${number}, which is too large`, {
    format: "ostree",
    field: what,
  });
}
