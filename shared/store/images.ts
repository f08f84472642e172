// Images: EROFS files that may be booted, images/<digest>. Used by prepare-root: keep its imports small.

import { IntegrityError } from "../error.ts";
import { O } from "../sys/constants.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists } from "../sys/file.ts";
import { linkEntry } from "./links.ts";
import type { StoreOptions } from "./object-file.ts";
import { checkMeasured, measure } from "./object-inspection.ts";
import { storeObject } from "./objects.ts";
import { checkDigest, type Repository } from "./repository.ts";

/** Stores an EROFS image and names it; durable when it returns, with all objects stored before. */
export function publishImage(
  repo: Repository,
  image: Uint8Array,
  options: StoreOptions = {},
): string {
  const digest = storeObject(repo, image, options);
  linkEntry(repo, "images", digest, digest);
  return digest;
}

/**
 * Opens the image of this digest. `verity` is true when the kernel enforces the digest; false only in an
 * insecure repository, when the file has no fs-verity. IntegrityError when the image is missing, another
 * one, or unprotected in a secure repository.
 */
export function openImage(repo: Repository, digest: string): { fd: Fd; verity: boolean } {
  const path = `images/${checkDigest(repo, digest)}`;
  const fd = openatIfExists(repo.dir, path, O.RDONLY | O.NONBLOCK);
  if (fd === null) {
    throw new IntegrityError(
      "missing-object",
      `Image "${digest}" is not in the repository "${repo.path}"`,
      { digest },
    );
  }
  try {
    return { fd, verity: checkMeasured(repo, digest, measure(repo, fd)) };
  } catch (error) {
    fd.close();
    throw error;
  }
}
