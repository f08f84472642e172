// Metadata objects of a repository: commits, dirtrees, dirmetas, and the detached metadata of commits. What a checksum
// names is hashed whenever it is read.

import { IntegrityError } from "../error.ts";
import { type Dictionary, decodeDictionary } from "../format/gvariant/dictionary.ts";
import { type Commit, MAX_METADATA_BYTES, parseCommit } from "../format/ostree/commit.ts";
import { type Dirtree, parseDirtree } from "../format/ostree/dirtree.ts";
import { type Ownership, parseDirmeta } from "../format/ostree/metadata.ts";
import {
  computeChecksum,
  type LooseType,
  loosePath,
  type MetadataType,
} from "../format/ostree/object.ts";
import { O } from "../sys/constants.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists, readAll } from "../sys/file.ts";
import { fstatatIfExists } from "../sys/stat.ts";
import type { OstreeRepository } from "./repository.ts";

/** Detached metadata holds signatures and caches of image configurations. */
const COMMITMETA_LIMIT_BYTES = 128 << 20;

/** The bytes; IntegrityError("missing-object" | "digest-mismatch"), FormatError("limit"). */
export function readMetadata(
  repo: OstreeRepository,
  checksum: string,
  type: MetadataType,
): Uint8Array {
  using fd = openLoose(repo, checksum, type);
  if (fd === null) throw missingObject(repo, checksum, type);
  const bytes = readAll(fd, MAX_METADATA_BYTES);
  const found = computeChecksum(bytes);
  if (found !== checksum) throw damagedObject(repo, checksum, type, found);
  return bytes;
}

export function readCommit(repo: OstreeRepository, checksum: string): Commit {
  return parseCommit(readMetadata(repo, checksum, "commit"));
}

export function readDirtree(repo: OstreeRepository, checksum: string): Dirtree {
  return parseDirtree(readMetadata(repo, checksum, "dirtree"));
}

export function readDirmeta(repo: OstreeRepository, checksum: string): Ownership {
  return parseDirmeta(readMetadata(repo, checksum, "dirmeta"));
}

/** Metadata that was added to a commit afterwards, e.g. signatures; null when there is none. */
export function readDetached(repo: OstreeRepository, checksum: string): Dictionary | null {
  using fd = openLoose(repo, checksum, "commitmeta");
  return fd === null ? null : decodeDictionary(readAll(fd, COMMITMETA_LIMIT_BYTES));
}

/** Whether the repository or a parent has a file for this object. */
export function hasLoose(repo: OstreeRepository, checksum: string, type: LooseType): boolean {
  const stat = fstatatIfExists(repo.dir, `objects/${loosePath(checksum, type)}`);
  return stat !== null || (repo.parent !== null && hasLoose(repo.parent, checksum, type));
}

/** O_NONBLOCK: a FIFO in an object's place must not hang us. */
function openLoose(repo: OstreeRepository, checksum: string, type: LooseType): Fd | null {
  const path = `objects/${loosePath(checksum, type)}`;
  const fd = openatIfExists(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  return fd ?? (repo.parent === null ? null : openLoose(repo.parent, checksum, type));
}

export function missingObject(
  repo: OstreeRepository,
  checksum: string,
  type: LooseType,
): IntegrityError {
  return new IntegrityError(
    "missing-object",
    `Object "${checksum}.${type}" is missing from the repository "${repo.path}"`,
    { checksum, type },
  );
}

export function damagedObject(
  repo: OstreeRepository,
  checksum: string,
  type: LooseType,
  found: string,
): IntegrityError {
  return new IntegrityError(
    "digest-mismatch",
    `Object "${checksum}.${type}" in "${repo.path}" is damaged: its checksum is "${found}"`,
    { checksum, type, found },
  );
}
