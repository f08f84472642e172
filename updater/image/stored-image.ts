// An image that was pulled, read back from its streams: manifest, config, and what they refer to.
// What is read here is checked as if it came from a registry.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import { computeDigest, digestSchema, splitDigest } from "../../shared/format/oci/digest.ts";
import {
  type ImageManifest,
  MAX_DOCUMENT_BYTES,
  parseManifestDocument,
} from "../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { readObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { configStreamName, MAX_STREAM_BYTES, manifestStreamName } from "./image-streams.ts";

/** A stream that is one JSON document. */
export interface StoredDocument {
  readonly bytes: Uint8Array;
  /** Name -> digest of a stream or image. */
  readonly namedRefs: ReadonlyMap<string, string>;
}

/** Manifest and config of the image with this manifest digest. IntegrityError when it is not complete. */
export function readStoredImage(
  repo: Repository,
  manifestDigest: string,
): { readonly manifest: ImageManifest; readonly config: ImageConfig } {
  const document = (name: string, digest: string, what: string): Uint8Array => {
    const stream = streamObject(repo, name);
    if (stream === null) {
      throw new IntegrityError("missing-object", `${what} is not in "${repo.path}"`, { digest });
    }
    const { bytes } = readStoredDocument(repo, stream);
    if (hasDigest(bytes, digest)) return bytes;
    throw new IntegrityError("digest-mismatch", `${what} is damaged; pull the image again`, {
      digest,
    });
  };
  const what = `Manifest ${manifestDigest}`;
  const manifestBytes = document(manifestStreamName(manifestDigest), manifestDigest, what);
  const manifest = parseStoredManifest(manifestBytes, what);
  const { digest } = manifest.config;
  const configBytes = document(configStreamName(digest), digest, `Config ${digest}`);
  const config = parseImageConfig(configBytes, manifest.layers.length, `Config ${digest}`);
  return { manifest, config };
}

/** Reads the splitstream file `streamDigest`, which must be of exactly one object. */
export function readStoredDocument(repo: Repository, streamDigest: string): StoredDocument {
  const stream = readObject(repo, streamDigest, MAX_STREAM_BYTES);
  const { objectRefs, namedRefs } = readSplitStreamRefs(stream);
  const [digest] = objectRefs;
  if (digest === undefined || objectRefs.length !== 1) {
    throw new FormatError("bad-value", `Its stream has ${objectRefs.length} objects instead of 1`);
  }
  return { bytes: readObject(repo, digest, MAX_DOCUMENT_BYTES), namedRefs };
}

/** FormatError; with code "unsupported" for artifacts, which are no images. */
export function parseStoredManifest(bytes: Uint8Array, what: string): ImageManifest {
  // A Docker manifest says in itself what it is.
  const document = parseManifestDocument(bytes, OCI_MANIFEST, what);
  if (document.kind === "manifest") return document.manifest;
  throw new FormatError("bad-value", `${what} is an index`);
}

/** `digest` may be any text. */
export function hasDigest(bytes: Uint8Array, digest: string): boolean {
  if (!digestSchema.safeParse(digest).success) return false;
  return computeDigest(bytes, splitDigest(digest).algorithm) === digest;
}
