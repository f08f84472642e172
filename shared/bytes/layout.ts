// Declared binary structs: one declaration gives size, offsets, encoder, decoder and the type.
//
// A struct is its fields in order plus its declared size; the sum is checked when the module loads,
// so a wrong layout cannot even start. Integers are little-endian unless the name says `be`;
// 64-bit fields are `bigint` (u64) or safe-integer numbers (u64n). Out-of-range values and non-zero
// padding are FormatErrors naming struct, field and offset.

import { FormatError } from "../error.ts";

export interface Field<T> {
  readonly sizeBytes: number;
  readonly put: (view: DataView, offset: number, value: T) => void;
  readonly get: (view: DataView, offset: number) => T;
  /** Value encoded when the field is omitted. */
  readonly initial: T;
}

function integer(
  sizeBytes: number,
  max: number,
  get: (v: DataView, o: number) => number,
  put: (v: DataView, o: number, x: number) => void,
): Field<number> {
  return {
    sizeBytes,
    initial: 0,
    get,
    put: (view, offset, value) => {
      if (!Number.isInteger(value) || value < 0 || value > max) {
        throw new RangeError(`${value} does not fit in u${sizeBytes * 8}`);
      }
      put(view, offset, value);
    },
  };
}

export const u8 = integer(
  1,
  0xff,
  (v, o) => v.getUint8(o),
  (v, o, x) => v.setUint8(o, x),
);
export const u16 = integer(
  2,
  0xffff,
  (v, o) => v.getUint16(o, true),
  (v, o, x) => v.setUint16(o, x, true),
);
export const u32 = integer(
  4,
  0xffffffff,
  (v, o) => v.getUint32(o, true),
  (v, o, x) => v.setUint32(o, x, true),
);

export const u64be: Field<bigint> = {
  sizeBytes: 8,
  initial: 0n,
  get: (v, o) => v.getBigUint64(o),
  put: (v, o, x) => v.setBigUint64(o, BigInt.asUintN(64, x)),
};

/** Unsigned 64 bits as bigint; a negative bigint is written as two's complement. */
export const u64: Field<bigint> = {
  sizeBytes: 8,
  initial: 0n,
  get: (v, o) => v.getBigUint64(o, true),
  put: (v, o, x) => v.setBigUint64(o, BigInt.asUintN(64, x), true),
};

/** Unsigned 64 bits as a safe-integer number; larger values are refused on reading. */
export const u64n: Field<number> = {
  sizeBytes: 8,
  initial: 0,
  get: (v, o) => {
    const value = v.getBigUint64(o, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new RangeError(`${value} exceeds 2^53`);
    return Number(value);
  },
  put: (v, o, x) => {
    if (!Number.isSafeInteger(x) || x < 0) throw new RangeError(`${x} does not fit in u64`);
    v.setBigUint64(o, BigInt(x), true);
  },
};

/** `count` raw bytes, copied. */
export function bytes(count: number): Field<Uint8Array> {
  return {
    sizeBytes: count,
    initial: new Uint8Array(count),
    get: (v, o) => new Uint8Array(v.buffer, v.byteOffset + o, count).slice(),
    put: (v, o, x) => {
      if (x.length !== count) throw new RangeError(`${x.length} bytes, expected ${count}`);
      new Uint8Array(v.buffer, v.byteOffset + o, count).set(x);
    },
  };
}

/** `count` reserved bytes: written as zero, refused when not zero. */
export function zeros(count: number): Field<undefined> {
  return {
    sizeBytes: count,
    initial: undefined,
    get: (v, o) => {
      for (let i = 0; i < count; i++) {
        if (v.getUint8(o + i) !== 0) throw new RangeError("reserved bytes are not zero");
      }
      return undefined;
    },
    put: () => {},
  };
}

/** `count` bytes that are neither checked nor kept. */
export function ignored(count: number): Field<undefined> {
  return { sizeBytes: count, initial: undefined, get: () => undefined, put: () => {} };
}

/** A fixed value: written always, checked when reading. */
export function constant<T extends number | bigint>(field: Field<T>, value: T): Field<T> {
  return {
    sizeBytes: field.sizeBytes,
    initial: value,
    get: (v, o) => {
      const found = field.get(v, o);
      if (found !== value) throw new RangeError(`is ${found}, expected ${value}`);
      return found;
    },
    put: (v, o) => field.put(v, o, value),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: the field map is heterogeneous by nature
type Fields = Readonly<Record<string, Field<any>>>;
type Values<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

export interface Struct<F extends Fields> {
  readonly name: string;
  readonly sizeBytes: number;
  readonly offsets: { readonly [K in keyof F]: number };
  /** Writes at `offset`; omitted fields get their initial value. */
  readonly encodeInto: (target: Uint8Array, offset: number, value: Partial<Values<F>>) => void;
  readonly encode: (value: Partial<Values<F>>) => Uint8Array;
  /** Reads at `offset`; FormatError when too short or a field is wrong. */
  readonly decode: (source: Uint8Array, offset?: number) => Values<F>;
}
export type Infer<S> = S extends Struct<infer F> ? Values<F> : never;

/** Declares a struct; throws at load time when the fields do not add up to `sizeBytes`. */
export function struct<F extends Fields>(name: string, sizeBytes: number, fields: F): Struct<F> {
  const offsets: Record<string, number> = {};
  let end = 0;
  for (const [key, field] of Object.entries(fields)) {
    offsets[key] = end;
    end += field.sizeBytes;
  }
  if (end !== sizeBytes) throw new Error(`${name}: fields are ${end} bytes, declared ${sizeBytes}`);
  const list = Object.entries(fields).map(([key, field]) => [key, field, offsets[key]!] as const);

  function encodeInto(target: Uint8Array, offset: number, value: Partial<Values<F>>): void {
    const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
    for (const [key, field, at] of list) {
      try {
        field.put(view, offset + at, value[key] ?? field.initial);
      } catch (cause) {
        throw fieldError(name, key, at, cause);
      }
    }
  }
  function decode(source: Uint8Array, offset = 0): Values<F> {
    if (offset < 0 || offset + sizeBytes > source.length) {
      throw new FormatError("truncated", `${name} needs ${sizeBytes} bytes at ${offset}`, {
        format: name,
        offset,
      });
    }
    const view = new DataView(source.buffer, source.byteOffset, source.byteLength);
    const value: Record<string, unknown> = {};
    for (const [key, field, at] of list) {
      try {
        value[key] = field.get(view, offset + at);
      } catch (cause) {
        throw fieldError(name, key, offset + at, cause);
      }
    }
    return value as Values<F>;
  }
  return {
    name,
    sizeBytes,
    offsets: offsets as Struct<F>["offsets"],
    encodeInto,
    encode: (value) => {
      const out = new Uint8Array(sizeBytes);
      encodeInto(out, 0, value);
      return out;
    },
    decode,
  };
}

function fieldError(format: string, field: string, offset: number, cause: unknown): FormatError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FormatError("bad-value", `${format}.${field}: ${reason}`, { format, field, offset });
}
