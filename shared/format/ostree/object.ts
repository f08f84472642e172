// Names of ostree objects: SHA-256 checksums in lower-case hex, and the loose files they are stored in,
// `objects/XX/<62 digits>.<type>` (ostree.md 4.1, 4.2).

import { fromHex, toHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";

/** Objects whose bytes are a GVariant and whose name is the checksum of these bytes. */
export type MetadataType = "commit" | "dirtree" | "dirmeta";
/** Files in `objects/`; `filez` is `file` in an archive. */
export type LooseType =
  | MetadataType
  | "file"
  | "filez"
  | "commitmeta"
  | "tombstone-commit"
  | "payload-link"
  | "file-xattrs"
  | "file-xattrs-link";

const CHECKSUM_BYTES = 32;
const LOOSE_TYPES: ReadonlySet<string> = new Set<LooseType>([
  ...(["commit", "dirtree", "dirmeta", "file", "filez", "commitmeta", "tombstone-commit"] as const),
  ...(["payload-link", "file-xattrs", "file-xattrs-link"] as const),
]);

export function isChecksum(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** Bun's own hash: node:crypto would cost prepare-root much of its start-up time to load. */
export function computeChecksum(bytes: Uint8Array): string {
  return Bun.SHA256.hash(bytes, "hex");
}

/** "ab/cdef….commit", below `objects/`. */
export function loosePath(checksum: string, type: LooseType): string {
  return `${checksum.slice(0, 2)}/${checksum.slice(2)}.${type}`;
}

/** The object that the file `name` in the directory `prefix` is; null for anything else. */
export function parseLooseName(
  prefix: string,
  name: string,
): { readonly checksum: string; readonly type: LooseType } | null {
  const dot = name.indexOf(".");
  const checksum = `${prefix}${name.slice(0, dot)}`;
  const type = name.slice(dot + 1);
  if (dot < 0 || !isChecksum(checksum) || !LOOSE_TYPES.has(type)) return null;
  return { checksum, type: type as LooseType };
}

/** From the 32 bytes in an object; `what` names the field in the FormatError for any other length. */
export function checksumFromBytes(bytes: Uint8Array, what: string): string {
  if (bytes.length === CHECKSUM_BYTES) return toHex(bytes);
  throw new FormatError("bad-value", `${what} has ${bytes.length} bytes, not ${CHECKSUM_BYTES}`, {
    format: "ostree",
    field: what,
  });
}

export function checksumToBytes(checksum: string): Uint8Array {
  return fromHex(checksum);
}
