// What a check of a repository finds, as plain data. The kinds are those of composefs-rs' fsck
// (composefs-rs.md 1.8), so that scripts need not know which program looked.

import { FormatError, IntegrityError, SyscallError, UnsupportedError } from "../error.ts";

/** Of the repository itself; see fsck.ts. */
export type RepositoryFindingKind =
  | "metadata-parse-failed"
  | "metadata-algorithm-mismatch"
  | "object-invalid-name"
  | "object-open-failed"
  | "object-digest-mismatch"
  | "object-verity-failed"
  | "object-verity-missing"
  | "entry-not-symlink"
  | "broken-symlink"
  | "stat-failed"
  | "unexpected-file-type"
  | "stream-open-failed"
  | "stream-read-failed"
  | "missing-object-ref"
  | "missing-named-ref"
  | "object-check-failed"
  | "image-open-failed"
  | "image-read-failed"
  | "image-invalid"
  | "image-missing-object";

export interface Finding<Kind extends string = string> {
  readonly kind: Kind;
  /** Below the repository: "streams/oci-config-sha256:…". */
  readonly path: string;
  /** What is wrong, for a person. */
  readonly problem: string;
  /** What to do about it. */
  readonly advice: string;
  /** Digest of the object that is damaged or missing, where it is one. */
  readonly object?: string;
}

/** What bytes, a disk or a file system without fs-verity can cause; the rest is no finding. */
export function isDamage(
  error: unknown,
): error is FormatError | IntegrityError | SyscallError | UnsupportedError {
  const classes = [FormatError, IntegrityError, SyscallError, UnsupportedError];
  return classes.some((each) => error instanceof each);
}
