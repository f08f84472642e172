// What a stored image says about itself, read from the repository's manifest and config streams
// (composefs-rs.md 2.1: each holds exactly one object, the JSON document).

import { FormatError } from "../../shared/error.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import {
  type ImageManifest,
  MAX_DOCUMENT_BYTES,
  parseManifestDocument,
} from "../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { readObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";

/** Far above what a stream of one object needs. */
const STREAM_LIMIT_BYTES = 4 << 20;
const VERSION_KEYS = ["org.opencontainers.image.version", "version"];

export interface ImageFacts {
  readonly version: string | null;
  /** RFC 3339 */
  readonly timestamp: string | null;
  /** GOARCH name. */
  readonly architecture: string;
}

/** Null when the image is not in the repository; errors when it is damaged. */
export function readImageFacts(repo: Repository, manifestDigest: string): ImageFacts | null {
  const manifestBytes = readDocument(repo, "manifest", manifestDigest);
  if (manifestBytes === null) return null;
  const document = parseManifestDocument(manifestBytes, OCI_MANIFEST, manifestDigest);
  if (document.kind !== "manifest") return null;
  const { manifest } = document;
  const configBytes = readDocument(repo, "config", manifest.config.digest);
  if (configBytes === null) return null;
  return describeImage(
    manifest,
    parseImageConfig(configBytes, manifest.layers.length, manifest.config.digest),
  );
}

/** The manifest's annotation decides, as in bootc; images without one may have the label. */
export function describeImage(manifest: ImageManifest, config: ImageConfig): ImageFacts {
  const labels = config.config?.Labels ?? {};
  const [annotation] = VERSION_KEYS;
  const version =
    manifest.annotations?.[annotation!] ??
    VERSION_KEYS.map((key) => labels[key]).find((value) => value !== undefined);
  return {
    version: version ?? null,
    timestamp: config.created ?? null,
    architecture: config.architecture || hostArchitecture(),
  };
}

function readDocument(
  repo: Repository,
  kind: "manifest" | "config",
  digest: string,
): Uint8Array | null {
  const stream = streamObject(repo, `oci-${kind}-${digest}`);
  if (stream === null) return null;
  const { objectRefs } = readSplitStreamRefs(readObject(repo, stream, STREAM_LIMIT_BYTES));
  const [object] = objectRefs;
  if (object === undefined || objectRefs.length !== 1) {
    throw new FormatError("bad-value", `Stream "oci-${kind}-${digest}" does not hold one document`);
  }
  const bytes = readObject(repo, object, MAX_DOCUMENT_BYTES);
  if (computeDigest(bytes, digest.split(":")[0]) !== digest) {
    throw new FormatError("bad-value", `The stored ${kind} is not ${digest}`);
  }
  return bytes;
}
