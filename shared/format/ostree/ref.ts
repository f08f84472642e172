// Names of refs (ostree.md 4.3): fragments joined by "/", which begin with a letter, digit or "_"; the name of a remote is
// one fragment. A refspec is a ref with a remote and ":" in front, or without.

import { FormatError } from "../../error.ts";
import { isChecksum } from "./object.ts";

export interface Refspec {
  readonly remote: string | null;
  readonly ref: string;
}

const FRAGMENT = "[A-Za-z0-9_][-._A-Za-z0-9]*";
const REF = new RegExp(`^${FRAGMENT}(?:/${FRAGMENT})*$`);
const REMOTE = new RegExp(`^${FRAGMENT}$`);

export function isRefName(text: string): boolean {
  return REF.test(text);
}

export function parseRefspec(text: string): Refspec {
  const colon = text.indexOf(":");
  const remote = colon < 0 ? null : text.slice(0, colon);
  const ref = text.slice(colon + 1);
  if (isRefName(ref) && (remote === null || REMOTE.test(remote))) return { remote, ref };
  throw new FormatError("bad-value", `"${text}" is neither a checksum nor the name of a ref`, {
    format: "ostree-ref",
  });
}

/** The content of a ref's file: a checksum and a line break. Null when it is anything else. */
export function parseRefFile(text: string): string | null {
  const checksum = text.trim();
  return isChecksum(checksum) ? checksum : null;
}
