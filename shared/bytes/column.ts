// Typed arrays that grow. `transfer` moves the bytes and frees the old buffer at once, which leaving
// it to the garbage collector would not.

export type Column = Uint8Array | Uint16Array | Int32Array;

/** The same values in an array of `length` elements, the rest zero; the old array is detached. */
export function growColumn<T extends Column>(column: T, length: number): T {
  const buffer = (column.buffer as ArrayBuffer).transfer(length * column.BYTES_PER_ELEMENT);
  return new (column.constructor as new (buffer: ArrayBuffer) => T)(buffer);
}
