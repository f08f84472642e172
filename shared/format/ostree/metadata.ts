// What ostree keeps of a file or directory besides its content: owner, mode, extended attributes; no
// times (ostree.md 4.2). Directories have it as an object of its own, dirmeta `(uuua(ayay))`, files in their
// header, and files of a bare-user repository in the attribute `user.ostreemeta`, of dirmeta's form.

import { FormatError } from "../../error.ts";
import { decodeGVariant } from "../gvariant/decode.ts";
import { encodeGVariant } from "../gvariant/encode.ts";
import type { GVariant } from "../gvariant/value.ts";
import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  NO_XATTRS,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Xattrs,
} from "../tree/node.ts";
import { swap32 } from "./byte-order.ts";

export interface Ownership {
  /** Full st_mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly xattrs: Xattrs;
}

const METADATA_TYPE = "(uuua(ayay))";
const PERMISSIONS = 0o7777;

/** A dirmeta object. */
export function parseDirmeta(bytes: Uint8Array): Ownership {
  return checkMode(decodeOwnership(bytes), [S_IFDIR], "Directory metadata");
}

/** The value of `user.ostreemeta`. */
export function parseFileMetadata(bytes: Uint8Array): Ownership {
  return checkMode(decodeOwnership(bytes), [S_IFREG, S_IFLNK], "user.ostreemeta");
}

/** A dirmeta object, or the value of `user.ostreemeta`. */
export function encodeOwnership({ mode, uid, gid, xattrs }: Ownership): Uint8Array {
  const fields = [swap32(uid), swap32(gid), swap32(mode), xattrsToVariant(xattrs)];
  return encodeGVariant(METADATA_TYPE, fields);
}

function decodeOwnership(bytes: Uint8Array): Ownership {
  const fields = decodeGVariant(METADATA_TYPE, bytes);
  const [uid, gid, mode, xattrs] = fields as [number, number, number, GVariant];
  return {
    mode: swap32(mode),
    uid: swap32(uid),
    gid: swap32(gid),
    xattrs: xattrsFromVariant(xattrs),
  };
}

/** Only these types, and no bits beyond the permissions. */
export function checkMode<T extends { readonly mode: number }>(
  value: T,
  types: readonly number[],
  what: string,
): T {
  const { mode } = value;
  const type = (mode & S_IFMT) >>> 0;
  if (types.includes(type) && mode - type === (mode & PERMISSIONS)) return value;
  throw new FormatError("bad-value", `${what} has the mode 0${mode.toString(8)}`, {
    format: "ostree",
    field: "mode",
  });
}

/** As a(ayay): names with a NUL at their end, in the order of their bytes. */
export function xattrsToVariant(xattrs: Xattrs): GVariant {
  return [...xattrs]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => [byteStringToBytes(`${name}\0`), value]);
}

/** FormatError unless names are complete, distinct and in order. */
export function xattrsFromVariant(variant: GVariant): Xattrs {
  const entries = variant as readonly (readonly [Uint8Array, Uint8Array])[];
  if (entries.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  let previous = "";
  for (const [nameBytes, value] of entries) {
    const name = bytesToByteString(nameBytes.subarray(0, -1));
    const isComplete = nameBytes.length > 1 && nameBytes.indexOf(0) === nameBytes.length - 1;
    if (!isComplete) throw badXattr(name, "is empty or has a NUL in the wrong place");
    if (name <= previous) throw badXattr(name, "is out of order");
    xattrs.set(name, value);
    previous = name;
  }
  return xattrs;
}

function badXattr(name: ByteString, problem: string): FormatError {
  return new FormatError("bad-value", `The name of an extended attribute, "${name}", ${problem}`, {
    format: "ostree",
    field: "xattrs",
  });
}
