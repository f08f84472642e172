// References as they are kept: every later upgrade reads them, from other directories than this one.

import { resolve } from "node:path";
import { absolutePathReference } from "../image/path-reference.ts";
import type { ImageReference } from "../image/reference.ts";

/** The same image; a relative path becomes absolute. */
export function absoluteReference(reference: ImageReference): ImageReference {
  switch (reference.transport) {
    case "oci":
    case "oci-archive":
    case "docker-archive":
      return { ...reference, image: absolutePathReference(reference.image) };
    case "dir":
      return { ...reference, image: resolve(reference.image) };
    case "registry":
    case "docker-daemon":
    case "containers-storage":
      return reference;
  }
}
