// From stored xattrs to the tree's: the writer's own are dropped, escaped names get their own back.

import { NO_XATTRS, type Xattrs } from "../tree/node.ts";
import { METACOPY, REDIRECT } from "./backing.ts";
import { imageError } from "./image.ts";
import { valueBytes, type XattrPair } from "./xattr-reader.ts";

const OVERLAY = "trusted.overlay.";
const ESCAPED = "trusted.overlay.overlay.";
const ROOT_OPAQUE = "trusted.overlay.opaque";

/** Unescapes; overlayfs' own xattrs are allowed only where the writer puts them. */
export function plainPairs(
  pairs: XattrPair[],
  kind: "root" | "external" | "other",
  offset: number,
): XattrPair[] {
  if (pairs.length === 0) return pairs;
  const plain: XattrPair[] = [];
  for (const pair of pairs) {
    const { name, image, at, sizeBytes } = pair;
    if (!name.startsWith(OVERLAY)) {
      plain.push(pair);
    } else if (name.startsWith(ESCAPED)) {
      plain.push({ name: OVERLAY + name.slice(ESCAPED.length), image, at, sizeBytes });
    } else if (!isOwn(name, kind)) {
      throw imageError("bad-value", `Xattr "${name}" is not allowed here`, offset);
    }
  }
  return plain;
}

function isOwn(name: string, kind: "root" | "external" | "other"): boolean {
  if (kind === "root") return name === ROOT_OPAQUE;
  return kind === "external" && (name === METACOPY || name === REDIRECT);
}

/** Maps by their pairs, so that files with the same shared xattrs have the same Map. */
export type XattrsCache = Map<XattrPair, Xattrs>;

/** The pairs as the tree keeps them; `mayRepeat` lets the last of several values win for now. */
export function toXattrs(
  pairs: readonly XattrPair[],
  cache: XattrsCache,
  offset: number,
  mayRepeat: boolean,
): Xattrs {
  const [first] = pairs;
  if (first === undefined) return NO_XATTRS;
  const cached = pairs.length === 1 ? cache.get(first) : undefined;
  if (cached !== undefined) return cached;
  const xattrs = new Map<string, Uint8Array>();
  for (const pair of pairs) {
    const { name } = pair;
    if (!mayRepeat && xattrs.has(name)) {
      throw imageError("bad-value", `Xattr "${name}" is there twice`, offset);
    }
    xattrs.set(name, valueBytes(pair));
  }
  if (pairs.length === 1) cache.set(first, xattrs);
  return xattrs;
}
