// The `oci:` transport: an image layout in a directory, e.g. on a USB stick.

import { blobPath } from "../../shared/format/oci/layout.ts";
import { openLayoutArtifacts } from "./artifact-source.ts";
import { verifyBlob } from "./blob.ts";
import { readBlobFile, readDocumentFile } from "./blob-file.ts";
import { type LayoutFiles, resolveLayout } from "./layout-source.ts";
import { splitPathReference } from "./path-reference.ts";
import { openLayoutSignatures } from "./policy/layout-signatures.ts";
import type { ImageSource } from "./resolved-image.ts";

/** `image` is "path[:tag]" or "path[:@index]". */
export function openOciDirectory(image: string, architecture: string): ImageSource {
  const name = `oci:${image}`;
  const { path, choice } = splitPathReference(image);
  const files: LayoutFiles = {
    what: `OCI directory "${path}"`,
    readFile: (file) => readDocumentFile(path, file, "an OCI image directory"),
    openBlob: (blob) =>
      readBlobFile([`${path}/${blobPath(blob.digest)}`], blob, `Blob ${blob.digest} of "${name}"`),
  };
  return {
    name,
    resolve: (admit) => resolveLayout(files, choice, architecture, name, admit),
    signatures: openLayoutSignatures(files),
    artifacts: openLayoutArtifacts(files),
    openLayer: (layer) =>
      verifyBlob(files.openBlob(layer), layer, `Layer ${layer.digest} of "${name}"`),
  };
}
