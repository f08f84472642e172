// What overlayfs' xattrs say about a file whose data is in the object store.

import type { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";
import { imageError } from "./image.ts";
import type { XattrPair } from "./xattr-reader.ts";

export const METACOPY = "trusted.overlay.metacopy";
export const REDIRECT = "trusted.overlay.redirect";
const METACOPY_HEAD_BYTES = 4;
const SLASH = 0x2f;

/** Digest and object path as far as they are recorded. */
export interface Backing {
  digest?: string;
  payload?: ByteString;
}

/** Reads metacopy and redirect; the first must be there. `offset` is for messages. */
export function readBacking(pairs: readonly XattrPair[], offset: number): Backing {
  const backing: Backing = {};
  let found = 0;
  for (const pair of pairs) {
    if (pair.name === METACOPY) {
      found += 1;
      if (pair.sizeBytes > 0) backing.digest = readMetacopy(pair, offset);
    } else if (pair.name === REDIRECT) {
      if (backing.payload !== undefined) throw redirectError(offset);
      backing.payload = readRedirect(pair, offset);
    }
  }
  if (found !== 1) throw imageError("bad-value", "External file needs one metacopy xattr", offset);
  return backing;
}

/** The path without its leading slash. */
function readRedirect({ image, at, sizeBytes }: XattrPair, offset: number): ByteString {
  const { bytes, text } = image;
  if (sizeBytes < 2 || bytes[at] !== SLASH) throw redirectError(offset);
  const path = text.toString("latin1", at + 1, at + sizeBytes);
  if (path.includes("\0")) throw redirectError(offset);
  return path;
}

function redirectError(offset: number): FormatError {
  return imageError("bad-value", "Bad redirect xattr", offset);
}

function readMetacopy({ image, at, sizeBytes }: XattrPair, offset: number): string {
  const { bytes, text } = image;
  const algorithm = sizeBytes < METACOPY_HEAD_BYTES ? 0 : bytes[at + 3];
  const digestBytes = algorithm === 1 ? 32 : algorithm === 2 ? 64 : -1;
  const isValid = bytes[at] === 0 && bytes[at + 1] === sizeBytes && bytes[at + 2] === 0;
  if (!isValid || sizeBytes !== METACOPY_HEAD_BYTES + digestBytes) {
    throw imageError("bad-value", "Bad metacopy xattr", offset);
  }
  return text.toString("hex", at + METACOPY_HEAD_BYTES, at + sizeBytes);
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
