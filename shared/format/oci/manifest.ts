// Image manifests and indexes (OCI image spec 1.1, Docker schema 2).
//
// A document must be one or the other: with both `layers` and `manifests` two readers could see two
// images under one digest (CVE-2021-41190), so it is refused. Unknown fields are kept and ignored.

import * as z from "zod";
import { FormatError } from "../../error.ts";
import { digestSchema } from "./digest.ts";
import { parseJson } from "./json.ts";
import {
  DOCKER_CONFIG,
  DOCKER_MANIFEST,
  isConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  OCI_INDEX,
  OCI_MANIFEST,
} from "./media-type.ts";

/** The limit the distribution spec recommends; also for indexes and configs. */
export const MAX_DOCUMENT_BYTES = 4 << 20;
/** Layers per image, manifests per index. */
const MAX_ENTRIES = 4096;

const annotationsSchema = z.record(z.string(), z.string()).nullish();

const platformSchema = z.looseObject({
  architecture: z.string(),
  os: z.string(),
  variant: z.string().optional(),
});

const descriptorSchema = z.looseObject({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.int().nonnegative(),
  annotations: annotationsSchema,
  platform: platformSchema.optional(),
});
export type Descriptor = z.infer<typeof descriptorSchema>;

const manifestSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  artifactType: z.string().optional(),
  config: descriptorSchema,
  layers: z.array(descriptorSchema).min(1).max(MAX_ENTRIES),
  subject: descriptorSchema.optional(),
  annotations: annotationsSchema,
  manifests: z.undefined().optional(),
});
export type ImageManifest = z.infer<typeof manifestSchema>;

const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: z.array(descriptorSchema).max(MAX_ENTRIES),
  annotations: annotationsSchema,
  config: z.undefined().optional(),
  layers: z.undefined().optional(),
});
export type ImageIndex = z.infer<typeof indexSchema>;

export type ManifestDocument =
  | { readonly kind: "manifest"; readonly manifest: ImageManifest }
  | { readonly kind: "index"; readonly index: ImageIndex };

/**
 * Reads a manifest or an index as `mediaType` says (from the descriptor or the Content-Type).
 * FormatError when the document says otherwise; "unsupported" for other kinds of document.
 */
export function parseManifestDocument(
  bytes: Uint8Array,
  mediaType: string,
  what: string,
): ManifestDocument {
  if (isIndexType(mediaType)) return { kind: "index", index: parseImageIndex(bytes, what) };
  if (!isManifestType(mediaType)) {
    throw new FormatError("unsupported", `${what} is a "${mediaType}", not a container image`);
  }
  const manifest = parseJson(manifestSchema, bytes, what);
  checkOwnType(manifest.mediaType, isManifestType, what);
  if (!isConfigType(manifest.config.mediaType)) {
    throw new FormatError(
      "unsupported",
      `${what} is an artifact ("${manifest.config.mediaType}"), not a container image`,
    );
  }
  for (const layer of manifest.layers) {
    if (!isLayerType(layer.mediaType)) {
      throw new FormatError("unsupported", `${what} has a layer of type "${layer.mediaType}"`);
    }
  }
  return { kind: "manifest", manifest };
}

/** An index, e.g. the `index.json` of a layout, whose type nobody stated. */
export function parseImageIndex(bytes: Uint8Array, what: string): ImageIndex {
  const index = parseJson(indexSchema, bytes, what);
  checkOwnType(index.mediaType, isIndexType, what);
  return index;
}

function checkOwnType(
  own: string | undefined,
  accept: (mediaType: string) => boolean,
  what: string,
): void {
  if (own === undefined || accept(own)) return;
  throw new FormatError("bad-value", `${what} calls itself a "${own}", which it is not said to be`);
}

const typeSchema = z.looseObject({
  mediaType: z.string().optional(),
  config: z.looseObject({ mediaType: z.string().optional() }).optional(),
  manifests: z.array(z.unknown()).optional(),
});

/** The type of a manifest or index that nobody stated: its own word, else what its fields say. */
export function guessManifestType(bytes: Uint8Array, what: string): string {
  const { mediaType, config, manifests } = parseJson(typeSchema, bytes, what);
  if (mediaType !== undefined && mediaType !== "") return mediaType;
  if (manifests !== undefined) return OCI_INDEX;
  return config?.mediaType === DOCKER_CONFIG ? DOCKER_MANIFEST : OCI_MANIFEST;
}
