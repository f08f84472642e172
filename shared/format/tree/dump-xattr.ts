// The KEY=VALUE pairs at the end of a dump line.

import { cutAtNul, type FieldReader, lineError, unescapeField } from "./dump-field.ts";
import type { ByteString, Xattrs } from "./node.ts";

const SPACE = 0x20;
const EQUALS = 0x3d;
const MAX_LINE_XATTRS_BYTES = 0xffff;
const MAX_CACHED = 4096;

/** By text. Most files of an OS have one of a few labels: one Map each. */
export type XattrsCache = Map<string, Xattrs>;

/** The pairs from position `from` to the line's end; a trailing space is allowed. */
export function parseXattrs(fields: FieldReader, from: number, cache: XattrsCache): Xattrs {
  const { text, lineEnd, line } = fields;
  if (lineEnd - from > MAX_LINE_XATTRS_BYTES && !fields.rust) {
    throw lineError(line, "xattr", "More than 65535 bytes of xattrs", "limit");
  }
  const key = text.toString("latin1", from, lineEnd);
  const known = cache.get(key);
  if (known !== undefined) return known;
  if (key.includes("\0")) throw lineError(line, "xattr", "Line has a NUL byte");
  const xattrs = new Map<ByteString, Uint8Array>();
  for (let start = from; start < lineEnd; ) {
    const space = text.indexOf(SPACE, start);
    const end = space === -1 || space > lineEnd ? lineEnd : space;
    addXattr(fields, xattrs, start, end);
    start = end + 1;
  }
  if (cache.size < MAX_CACHED) cache.set(key, xattrs);
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
