// GVariant values as plain data, and how a container's framing offsets are sized.
//
// What a value looks like follows from its type: b boolean; y n q i u h d number; x t bigint; s o g string;
// ay bytes; other arrays, tuples and dictionary entries lists; m a list of none or one; v an object
// with its type. Dictionaries stay lists of entries: ostree keeps their order, and checksums cover it.

export interface Variant {
  readonly type: string;
  readonly value: GVariant;
}
export type GVariant =
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Variant
  | readonly GVariant[];

/** Bytes of one framing offset in a container of `sizeBytes`, table included. */
export function offsetBytes(sizeBytes: number): 1 | 2 | 4 | 8 {
  if (sizeBytes <= 0xff) return 1;
  if (sizeBytes <= 0xffff) return 2;
  return sizeBytes <= 0xffffffff ? 4 : 8;
}

/** The same before the table is there: `bodyBytes` and a table of `count`. */
export function offsetBytesFor(bodyBytes: number, count: number): 1 | 2 | 4 | 8 {
  for (const width of [1, 2, 4] as const) {
    if (offsetBytes(bodyBytes + count * width) <= width) return width;
  }
  return 8;
}
