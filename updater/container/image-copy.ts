// An image from anywhere into an OCI layout: its layers as they are stored there, or where a transport keeps them
// unpacked, their tars; manifest and config follow when the image is finished.

import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { verifyBlob } from "../image/blob.ts";
import { readBlobFile } from "../image/blob-file.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import type { BlobDescriptor, LayoutWriter } from "./layout-writer.ts";

const OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";

/** The layers' descriptors in the layout. Errors as pulling has them. */
export async function copyLayers(
  source: ImageSource,
  image: ResolvedImage,
  layout: LayoutWriter,
  signal: AbortSignal,
): Promise<readonly Descriptor[]> {
  const layers: Descriptor[] = [];
  for (const [index, layer] of image.manifest.layers.entries()) {
    const diffId = image.config.rootfs.diff_ids[index]!;
    const blob = layout.has(layer)
      ? layer
      : await layout.put(stopAt(source.openLayer(layer, diffId), signal));
    layers.push(blob.digest === diffId ? tarLayer(blob) : convertLayer(layer));
  }
  return layers;
}

/** Of a transport that has the tars only, or an image that has them as they are. */
function tarLayer({ digest, size }: BlobDescriptor): Descriptor {
  return { mediaType: OCI_LAYER, digest, size };
}

async function* stopAt(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal) {
  for await (const chunk of chunks) {
    signal.throwIfAborted();
    yield chunk;
  }
}

/** With OCI's name for its type: layouts are OCI's, and Docker's layers are the same bytes. */
function convertLayer(layer: Descriptor): Descriptor {
  const compression = /\.(gzip|zstd)$/.exec(layer.mediaType)?.[1];
  if (!layer.mediaType.startsWith("application/vnd.docker.")) return layer;
  const suffix = compression === undefined ? "" : `+${compression}`;
  return { ...layer, mediaType: `${OCI_LAYER}${suffix}` };
}

/** An image whose layers lie in the layout, as something to pull from. */
export function openLayoutImage(layout: LayoutWriter, image: ResolvedImage): ImageSource {
  const name = `oci:${layout.directory}`;
  return {
    name,
    resolve: async () => image,
    openLayer: (layer) => {
      const what = `Layer ${layer.digest} of "${name}"`;
      return verifyBlob(readBlobFile([layout.path(layer.digest)], layer, what), layer, what);
    },
  };
}
