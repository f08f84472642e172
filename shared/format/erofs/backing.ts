// What overlayfs' xattrs say about a file whose data is in the object store.

import { toHex } from "../../bytes/hex.ts";
import { type ByteString, bytesToByteString } from "../tree/node.ts";
import { imageError } from "./image.ts";
import type { XattrPair } from "./xattr-reader.ts";

export const METACOPY = "trusted.overlay.metacopy";
export const REDIRECT = "trusted.overlay.redirect";

/** Digest and object path as far as they are recorded. */
export interface Backing {
  digest?: string;
  payload?: ByteString;
}

/** Reads metacopy and redirect; the first must be there. `offset` is for messages. */
export function readBacking(pairs: readonly XattrPair[], offset: number): Backing {
  const backing: Backing = {};
  let found = 0;
  for (const { name, value } of pairs) {
    if (name === METACOPY) {
      found += 1;
      if (value.length > 0) backing.digest = readMetacopy(value, offset);
    } else if (name === REDIRECT) {
      if (value.length < 2 || value[0] !== 0x2f || value.includes(0) || backing.payload) {
        throw imageError("bad-value", "Bad redirect xattr", offset);
      }
      backing.payload = bytesToByteString(value.subarray(1));
    }
  }
  if (found !== 1) throw imageError("bad-value", "External file needs one metacopy xattr", offset);
  return backing;
}

function readMetacopy(value: Uint8Array, offset: number): string {
  const digestBytes = value[3] === 1 ? 32 : value[3] === 2 ? 64 : -1;
  const valid = value[0] === 0 && value[1] === value.length && value[2] === 0;
  if (!valid || value.length !== 4 + digestBytes) {
    throw imageError("bad-value", "Bad metacopy xattr", offset);
  }
  return toHex(value.subarray(4));
}

const OBJECT_PATH = /^\/*([0-9a-f]{2})\/([0-9a-f]{62}|[0-9a-f]{126})$/;

/** The objects this file needs: the digest's, and the one the path names if that is another. */
export function backingObjects({ digest, payload }: Backing): string[] {
  const objects = digest === undefined ? [] : [digest];
  const match = payload === undefined ? null : OBJECT_PATH.exec(payload);
  if (match === null) return objects;
  const named = `${match[1]}${match[2]}`;
  return named === digest ? objects : [...objects, named];
}
