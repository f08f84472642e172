// What the parts of the dump parser share: the line that is being read, and what is known about the dump.

import {
  type ByteSpan,
  createFieldReader,
  type DumpOptions,
  type FieldReader,
} from "./dump-field.ts";
import { createXattrsCache, type XattrsCache } from "./dump-xattr.ts";
import { NO_XATTRS, type Xattrs } from "./node.ts";

/** A parsed and checked line; the reader reuses the object for the next one. */
export interface DumpLine {
  /** From 1. */
  number: number;
  readonly path: ByteSpan;
  isLink: boolean;
  /** Full st_mode with a known type. */
  mode: number;
  /** Infinity when larger than 2^53. */
  size: number;
  nlink: number;
  uid: number;
  gid: number;
  /** 0 for everything but devices. */
  rdev: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** Object path, symlink target or hard link target; empty when unset. */
  readonly payload: ByteSpan;
  /** Bytes of a file stored in the image (also of an empty one); null for external files. */
  content: ByteSpan | null;
  /** 32 or 64 bytes in memory that is reused; null when there is none. */
  digest: Uint8Array | null;
  xattrs: Xattrs;
}

const LIMITS = {
  c: { path: 4095, target: 4095, content: 5000 },
  rust: { path: 4095, target: 1024, content: 512 },
} as const;
export type Limits = (typeof LIMITS)["c" | "rust"];

export const NO_BYTES = Buffer.alloc(0);

function emptySpan(): ByteSpan {
  return { bytes: NO_BYTES, start: 0, end: 0 };
}

export interface LineReader {
  readonly fields: FieldReader;
  readonly strict: boolean;
  readonly limits: Limits;
  readonly line: DumpLine;
  /** Of the line, when it has any. */
  readonly content: ByteSpan;
  readonly xattrsCache: XattrsCache;
}

export function createLineReader(options: DumpOptions): LineReader {
  const line: DumpLine = {
    number: 0,
    path: emptySpan(),
    isLink: false,
    mode: 0,
    size: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    payload: emptySpan(),
    content: null,
    digest: null,
    xattrs: NO_XATTRS,
  };
  return {
    fields: createFieldReader(options),
    strict: options.strict ?? false,
    limits: LIMITS[options.dialect ?? "c"],
    line,
    content: emptySpan(),
    xattrsCache: createXattrsCache(),
  };
}
