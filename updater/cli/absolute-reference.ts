// References as they are kept: every later upgrade reads them, from other directories than this one.

import { resolve } from "node:path";
import type { ImageReference } from "../image/reference.ts";

const PATH_TRANSPORTS: readonly string[] = ["oci", "oci-archive", "docker-archive", "dir"];

/** The same image; a relative path becomes absolute. */
export function absoluteReference(reference: ImageReference): ImageReference {
  const isPath = PATH_TRANSPORTS.includes(reference.transport);
  return isPath ? { ...reference, image: resolve(reference.image) } : reference;
}
