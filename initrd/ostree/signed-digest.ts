// Which image a trusted commit names: the signature check of ostree deployments (ostree.md 1.4).
//
// - What is signed are the exact bytes of the commit object; what counts of it is the fs-verity digest
//   of the image. The kernel enforces that digest, so nothing else of the disk has to be believed.
// - One good signature by one known key is enough; signatures of other lengths are nobody's.
// - bootc puts a commit of its own, which nobody signed, on top of the image's: then the image's counts,
//   also when bootc keeps notes of its own where the signatures would be.

import { shortId, toHex } from "../../shared/bytes/hex.ts";
import { FormatError, PolicyError, StateError } from "../../shared/error.ts";
import { lookup, lookupString } from "../../shared/format/gvariant/dictionary.ts";
import { COMMIT_KEY, parseCommit } from "../../shared/format/ostree/commit.ts";
import { readSignatures, verifySignatures } from "../../shared/format/ostree/signature.ts";

/** The object's bytes, or null when there is none. */
export type ReadCommitObject = (commit: string, kind: "commit" | "commitmeta") => Uint8Array | null;

/** In the metadata of commits that bootc has made on this machine. */
const CONTAINER_KEY = "ostree.container.image-config";
const DIGEST_BYTES = 32;
const SIGNATURE_BYTES = 64;

/**
 * Hex SHA-256 fs-verity digest for the image of `commit`. PolicyError when no commit of it is signed by
 * one of `keys`; StateError when it is missing; FormatError when it is malformed or names no image.
 */
export function findSignedDigest(
  commit: string,
  keys: readonly Uint8Array[],
  readObject: ReadCommitObject,
): string {
  const own = findSignatures(commit, readObject);
  const bytes = readCommit(commit, readObject);
  if (own !== null) return checkCommit(commit, bytes, own, keys);
  const { metadata, parent } = parseCommit(bytes);
  const base = lookupString(metadata, CONTAINER_KEY) === null ? null : parent;
  const signatures = base === null ? null : findSignatures(base, readObject);
  if (base !== null && signatures !== null) {
    return checkCommit(base, readCommit(base, readObject), signatures, keys);
  }
  throw new PolicyError(
    "unsigned",
    `Commit ${shortId(commit)} is not signed, and prepare-root.conf wants a signature: choose another boot entry`,
  );
}

function readCommit(commit: string, readObject: ReadCommitObject): Uint8Array {
  const bytes = readObject(commit, "commit");
  if (bytes !== null) return bytes;
  throw new StateError(
    "missing",
    `Commit ${shortId(commit)}, whose signature is to be checked, is not in the repository: choose another boot entry`,
  );
}

/** Null when the commit has no signatures of this kind. */
function findSignatures(
  commit: string,
  readObject: ReadCommitObject,
): readonly Uint8Array[] | null {
  const detached = readObject(commit, "commitmeta");
  return detached === null ? null : readSignatures(detached);
}

function checkCommit(
  commit: string,
  bytes: Uint8Array,
  signatures: readonly Uint8Array[],
  keys: readonly Uint8Array[],
): string {
  const possible = signatures.filter(({ length }) => length === SIGNATURE_BYTES);
  if (!verifySignatures(bytes, possible, keys)) {
    throw new PolicyError(
      "untrusted-key",
      `Commit ${shortId(commit)} is signed by no key of this initramfs, or was changed: choose another boot entry`,
    );
  }
  const digest = lookup(parseCommit(bytes).metadata, COMMIT_KEY.composefsDigest, "ay");
  if (digest instanceof Uint8Array && digest.length === DIGEST_BYTES) return toHex(digest);
  throw new FormatError(
    "bad-value",
    `Commit ${shortId(commit)} names no image: make it with "ostree commit --generate-composefs-metadata"`,
    { format: "ostree-commit" },
  );
}
