// Opens an image reference by its transport.

import { UnsupportedError } from "../../shared/error.ts";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import { openOciDirectory } from "./oci-directory.ts";
import { displayReference, type ImageReference } from "./reference.ts";
import type { ImageSource } from "./resolved-image.ts";

/** `architecture` is a GOARCH name. Nothing is read before `resolve`. */
export function openSource(
  reference: ImageReference,
  architecture: string = hostArchitecture(),
): ImageSource {
  switch (reference.transport) {
    case "oci":
      return openOciDirectory(reference.image, architecture);
    case "registry":
    case "oci-archive":
    case "docker-archive":
    case "docker-daemon":
    case "containers-storage":
    case "dir":
      throw new UnsupportedError(
        "transport",
        `Cannot open "${displayReference(reference)}": transport "${reference.transport}" is not supported yet; ` +
          `copy the image to a directory with "skopeo copy … oci:DIRECTORY" and use transport "oci"`,
      );
  }
}
