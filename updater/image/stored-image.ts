// Documents of an image that was pulled, read back from their streams, with what these refer to. What is
// read here is checked as if it came from a registry.

import { FormatError } from "../../shared/error.ts";
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
import { MAX_STREAM_BYTES } from "./image-streams.ts";

/** A stream that is one JSON document. */
export interface StoredDocument {
  readonly bytes: Uint8Array;
  /** Name -> digest of a stream or image. */
  readonly namedRefs: ReadonlyMap<string, string>;
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
