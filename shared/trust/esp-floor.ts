// The floor on the EFI system partition: the signed statement of the image below whose version nothing starts
// (decision 0019). Nobody can invent one, but whoever can write there can put an older one in its place, or none.
//
// Invariant: only a statement with a good signature by a trusted key counts. Whether its image is revoked or has
// expired is another question.

import { join } from "node:path";
import { FormatError, isErrno } from "../error.ts";
import { S_IFMT, S_IFREG } from "../format/tree/node.ts";
import type { TrustAnchors } from "../format/trust/anchors.ts";
import { judgeImage } from "../format/trust/judgement.ts";
import { MAX_DOCUMENT_BYTES, parseSignedStatement } from "../format/trust/statement.ts";
import { O } from "../sys/constants.ts";
import { mkdiratIfMissing } from "../sys/directory.ts";
import { openat, readAll } from "../sys/file.ts";
import { fstat } from "../sys/stat.ts";
import { writeFileAtomic } from "../txn/atomic.ts";
import { syncPath } from "../txn/durable.ts";

/** Below the mounted partition. */
export const ESP_FLOOR_FILE = "EFI/bootc-ts/version-floor";

/** Null when there is none. FormatError or PolicyError when what lies there does not count. */
export function readEspFloor(espPath: string, anchors: TrustAnchors): number | null {
  const document = readDocument(join(espPath, ESP_FLOOR_FILE));
  return document === null ? null : versionOf(document, anchors);
}

/** Makes `document` the floor, durably. The caller has seen to it that it is not lower than what is there. */
export function writeEspFloor(espPath: string, document: Uint8Array): void {
  for (const directory of ["EFI", "EFI/bootc-ts"]) {
    const path = join(espPath, directory);
    if (mkdiratIfMissing(null, path, 0o755)) syncPath(join(path, ".."));
  }
  writeFileAtomic(null, join(espPath, ESP_FLOOR_FILE), document, { mode: 0o644 });
}

function versionOf(document: Uint8Array, anchors: TrustAnchors): number {
  const { statement } = parseSignedStatement(document, ESP_FLOOR_FILE);
  judgeImage({
    id: statement.digest,
    algorithm: statement.algorithm,
    anchors: { ...anchors, revokedDigests: new Set(), expired: "warn" },
    document,
    floor: null,
    now: new Date(),
  });
  return statement.version;
}

function readDocument(path: string): Uint8Array | null {
  try {
    using fd = openat(null, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
    if ((fstat(fd).mode & S_IFMT) === S_IFREG) return readAll(fd, MAX_DOCUMENT_BYTES);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
  throw new FormatError("bad-value", `"${path}" is not a regular file`, { path });
}
