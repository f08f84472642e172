// Opens an image reference by its transport.

import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import { openContainersStorage } from "./containers-storage.ts";
import { openDirSource } from "./dir-source.ts";
import { openDockerArchive } from "./docker-archive.ts";
import { openDockerDaemon } from "./docker-daemon.ts";
import { openOciArchive } from "./oci-archive.ts";
import { openOciDirectory } from "./oci-directory.ts";
import type { ImageReference } from "./reference.ts";
import { openRegistrySource } from "./registry-source.ts";
import type { ImageSource } from "./resolved-image.ts";

/** `architecture` is a GOARCH name. Nothing is read before `resolve`. The caller disposes of it. */
export function openSource(
  reference: ImageReference,
  architecture: string = hostArchitecture(),
): ImageSource & AsyncDisposable {
  const source = openTransport(reference, architecture);
  return { ...source, [Symbol.asyncDispose]: async () => await source[Symbol.asyncDispose]?.() };
}

/** A source is plain data and functions: callers spread it. */
function openTransport(reference: ImageReference, architecture: string): ImageSource {
  switch (reference.transport) {
    case "registry":
      return openRegistrySource(reference.image, architecture);
    case "oci":
      return openOciDirectory(reference.image, architecture);
    case "oci-archive":
      return openOciArchive(reference.image, architecture);
    case "docker-archive":
      return openDockerArchive(reference.image, architecture);
    case "docker-daemon":
      return openDockerDaemon(reference.image, architecture);
    case "containers-storage":
      return openContainersStorage(reference.image, architecture);
    case "dir":
      return openDirSource(reference.image, architecture);
  }
}
