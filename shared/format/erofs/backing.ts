// What overlayfs' xattrs say about a file whose data is in the object store.

import type { ByteString } from "../tree/node.ts";
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
      if (value.length < 2 || value[0] !== "/" || value.includes("\0") || backing.payload) {
        throw imageError("bad-value", "Bad redirect xattr", offset);
      }
      backing.payload = value.slice(1);
    }
  }
  if (found !== 1) throw imageError("bad-value", "External file needs one metacopy xattr", offset);
  return backing;
}

function readMetacopy(value: ByteString, offset: number): string {
  const algorithm = value.charCodeAt(3);
  const digestBytes = algorithm === 1 ? 32 : algorithm === 2 ? 64 : -1;
  const isValid = value[0] === "\0" && value.charCodeAt(1) === value.length && value[2] === "\0";
  if (!isValid || value.length !== 4 + digestBytes) {
    throw imageError("bad-value", "Bad metacopy xattr", offset);
  }
  return Buffer.from(value, "latin1").toString("hex", 4);
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
