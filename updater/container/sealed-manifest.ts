// Manifest and config of an image with the layer that seals it, and without it again. Both keep what they say
// otherwise; the history tells which layer is ours.

import * as z from "zod";
import { parseImageConfig } from "../../shared/format/oci/config.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import type { ResolvedImage } from "../image/resolved-image.ts";
import { STATEMENT_ANNOTATION } from "../image/statement-source.ts";

const OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
/** Who made the layer, in the history of the config. */
const CREATED_BY = "bootc container seal";

const configSchema = z.looseObject({
  created: z.string().optional(),
  rootfs: z.looseObject({ diff_ids: z.array(z.string()) }),
  history: z
    .array(
      z.looseObject({ created_by: z.string().optional(), empty_layer: z.boolean().optional() }),
    )
    .optional(),
});

/** Whether its last layer is one that seals. */
export function endsWithSeal(image: ResolvedImage): boolean {
  const { history = [] } = readConfig(image);
  return history.at(-1)?.created_by === CREATED_BY;
}

/** The image as it was before its last layer. */
export function withoutLastLayer(image: ResolvedImage): ResolvedImage {
  const config = readConfig(image);
  const { diff_ids } = config.rootfs;
  return rebuild(image, {
    layers: image.manifest.layers.slice(0, -1),
    config: {
      ...config,
      rootfs: { ...config.rootfs, diff_ids: diff_ids.slice(0, -1) },
      history: (config.history ?? []).slice(0, -1),
    },
    annotations: image.manifest.annotations ?? {},
  });
}

/** The image with one more layer. A statement that it had is about another image now; `statement` is the new one. */
export function withSealLayer(
  image: ResolvedImage,
  layer: Descriptor & { readonly diffId: string },
  statement: string | null,
): ResolvedImage {
  const config = readConfig(image);
  const { diffId, ...descriptor } = layer;
  const { [STATEMENT_ANNOTATION]: _, ...annotations } = image.manifest.annotations ?? {};
  const created = config.created === undefined ? {} : { created: config.created };
  return rebuild(image, {
    layers: [...image.manifest.layers, descriptor],
    config: {
      ...config,
      rootfs: { ...config.rootfs, diff_ids: [...config.rootfs.diff_ids, diffId] },
      history: [...(config.history ?? []), { ...created, created_by: CREATED_BY }],
    },
    annotations:
      statement === null ? annotations : { ...annotations, [STATEMENT_ANNOTATION]: statement },
  });
}

/** With OCI's names for the types, as in the layout that it goes to. */
export function withLayers(image: ResolvedImage, layers: readonly Descriptor[]): ResolvedImage {
  const annotations = image.manifest.annotations ?? {};
  return rebuild(image, { layers, config: readConfig(image), annotations });
}

function readConfig({ configBytes }: ResolvedImage) {
  return parseJson(configSchema, configBytes, "Config of the image");
}

function rebuild(
  image: ResolvedImage,
  parts: {
    readonly layers: readonly Descriptor[];
    readonly config: object;
    readonly annotations: Readonly<Record<string, string>>;
  },
): ResolvedImage {
  const { layers, annotations } = parts;
  const configBytes = Buffer.from(JSON.stringify(parts.config));
  const { annotations: _, ...rest } = image.manifest;
  const manifest = {
    ...rest,
    mediaType: OCI_MANIFEST,
    config: {
      ...image.manifest.config,
      mediaType: OCI_CONFIG,
      digest: computeDigest(configBytes),
      size: configBytes.length,
    },
    layers: [...layers],
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  };
  const manifestBytes = Buffer.from(JSON.stringify(manifest));
  return {
    manifestDigest: computeDigest(manifestBytes),
    manifestBytes,
    manifest,
    configBytes,
    config: parseImageConfig(configBytes, layers.length, "Config of the image"),
  };
}
