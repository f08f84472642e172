// Streams: content identifiers (e.g. oci-layer-sha256:…) for objects in splitstream format.

import { IntegrityError } from "../error.ts";
import { linkEntry, linkedObject } from "./links.ts";
import { hasObject } from "./object-inspection.ts";
import { type Repository, requireWritable } from "./repository.ts";

/**
 * Names a stored object; durable when it returns, with everything that was stored before. An older
 * stream of that name is replaced.
 */
export function publishStream(repo: Repository, name: string, objectDigest: string): void {
  requireWritable(repo);
  if (!hasObject(repo, objectDigest)) {
    throw new IntegrityError("missing-object", `Stream "${name}": its object is not stored`, {
      digest: objectDigest,
    });
  }
  linkEntry(repo, "streams", name, objectDigest);
}

/** Digest of the object the name stands for, or null. The object itself may be missing: openObject tells. */
export function streamObject(repo: Repository, name: string): string | null {
  return linkedObject(repo, "streams", name);
}
