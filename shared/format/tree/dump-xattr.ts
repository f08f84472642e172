// The KEY=VALUE pairs at the end of a dump line.

import { cutAtNul, type FieldReader, lineError, unescapeField } from "./dump-field.ts";
import { type ByteString, NO_XATTRS, type Xattrs } from "./node.ts";

const SPACE = 0x20;
const EQUALS = 0x3d;
const MAX_LINE_XATTRS_BYTES = 0xffff;
const MAX_CACHED = 4096;

/** By text. Most files of an OS have one of a few labels, and mostly that of their neighbour. */
export interface XattrsCache {
  readonly known: Map<string, Xattrs>;
  lastText: Buffer;
  lastXattrs: Xattrs;
}

export function createXattrsCache(): XattrsCache {
  return { known: new Map(), lastText: Buffer.alloc(0), lastXattrs: NO_XATTRS };
}

/** The pairs from position `from` to the line's end; a trailing space is allowed. */
export function parseXattrs(fields: FieldReader, from: number, cache: XattrsCache): Xattrs {
  const { text, lineEnd, line } = fields;
  if (lineEnd - from > MAX_LINE_XATTRS_BYTES && !fields.rust) {
    throw lineError(line, "xattr", "More than 65535 bytes of xattrs", "limit");
  }
  if (!isLast(cache, text, from, lineEnd)) {
    cache.lastXattrs = findXattrs(fields, from, cache);
    cache.lastText = Buffer.from(text.subarray(from, lineEnd));
  }
  return cache.lastXattrs;
}

function isLast({ lastText }: XattrsCache, text: Buffer, from: number, end: number): boolean {
  if (lastText.length !== end - from) return false;
  // From the end, where labels differ.
  for (let i = lastText.length - 1; i >= 0; i--) if (lastText[i] !== text[from + i]) return false;
  return true;
}

function findXattrs(fields: FieldReader, from: number, { known }: XattrsCache): Xattrs {
  const { text, lineEnd, line } = fields;
  const key = text.toString("latin1", from, lineEnd);
  const found = known.get(key);
  if (found !== undefined) return found;
  if (key.includes("\0")) throw lineError(line, "xattr", "Line has a NUL byte");
  const xattrs = new Map<ByteString, Uint8Array>();
  for (let start = from; start < lineEnd; ) {
    const space = text.indexOf(SPACE, start);
    const end = space === -1 || space > lineEnd ? lineEnd : space;
    addXattr(fields, xattrs, start, end);
    start = end + 1;
  }
  if (known.size < MAX_CACHED) known.set(key, xattrs);
  return xattrs;
}

/** A repeated key replaces the earlier value. */
function addXattr(
  fields: FieldReader,
  xattrs: Map<ByteString, Uint8Array>,
  start: number,
  end: number,
): void {
  const equals = fields.text.indexOf(EQUALS, start);
  if (equals === -1 || equals >= end) {
    throw lineError(fields.line, "xattr", "Extended attribute has no equals sign");
  }
  const raw = unescapeField(fields, "xattr", start, equals).toString("latin1");
  const name = cutAtNul(fields, "xattr", raw);
  if (name.length === 0 || name.length > 255) {
    throw lineError(fields.line, "xattr", "Name is not 1 to 255 bytes long", "limit");
  }
  const value = Uint8Array.from(unescapeField(fields, "xattr", equals + 1, end));
  if (value.length > 0xffff) {
    throw lineError(fields.line, "xattr", "Value is longer than 65535 bytes", "limit");
  }
  xattrs.set(name, value);
}
