// xattr names as EROFS stores them: a prefix number and the rest (composefs.md 2.6).

import type { ByteString } from "../tree/node.ts";
import { byteStringToBytes } from "../tree/node.ts";
import { XattrEntry } from "./layout.ts";

/** Index in this list = `e_name_index`. Matching is by prefix, also for the two ACL names. */
export const XATTR_PREFIXES: readonly string[] = [
  "",
  "user.",
  "system.posix_acl_access",
  "system.posix_acl_default",
  "trusted.",
  "lustre.",
  "security.",
];
const LUSTRE = 5;
const FILTER_SEED = 0x25bbe08f;

export interface XattrName {
  readonly full: ByteString;
  readonly prefixIndex: number;
  readonly suffix: Uint8Array;
  /** The bit this name clears in an inode's name filter. */
  readonly filterBit: number;
  /** Start of a stored entry: header without the value's size, suffix; so many bytes, zero-padded. */
  readonly head: Int32Array;
  readonly headBytes: number;
}

/** `lustre.` has a prefix number only in version 2 images. */
export function splitXattrName(full: ByteString, useLustre: boolean): XattrName {
  let prefixIndex = 0;
  for (let index = XATTR_PREFIXES.length - 1; index > 0; index--) {
    if (index === LUSTRE && !useLustre) continue;
    if (full.startsWith(XATTR_PREFIXES[index]!)) {
      prefixIndex = index;
      break;
    }
  }
  const suffix = byteStringToBytes(full.slice(XATTR_PREFIXES[prefixIndex]!.length));
  const hash = Bun.hash.xxHash32(suffix, (FILTER_SEED + prefixIndex) >>> 0);
  const headBytes = XattrEntry.sizeBytes + suffix.length;
  const head = new Int32Array((headBytes + 3) >> 2);
  const bytes = new Uint8Array(head.buffer);
  XattrEntry.encodeInto(bytes, 0, { nameLength: suffix.length, nameIndex: prefixIndex });
  bytes.set(suffix, XattrEntry.sizeBytes);
  return { full, prefixIndex, suffix, filterBit: 1 << (hash & 31), head, headBytes };
}

const OVERLAY = "trusted.overlay.";

/** Stored spelling of a name from the tree: overlayfs' own names get a second `overlay.`. */
export function escapeXattrName(name: ByteString): ByteString {
  return name.startsWith(OVERLAY) ? `${OVERLAY}overlay.${name.slice(OVERLAY.length)}` : name;
}
