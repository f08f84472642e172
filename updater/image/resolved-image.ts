// From a reference to one image of this machine's architecture, the same way for all transports:
// a transport only finds the first document and reads blobs; this file follows index -> manifest ->
// config and checks that they belong together.

import { FormatError, UnsupportedError } from "../../shared/error.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import {
  type Descriptor,
  type ImageManifest,
  MAX_DOCUMENT_BYTES,
  parseManifestDocument,
} from "../../shared/format/oci/manifest.ts";
import { selectPlatform } from "../../shared/format/oci/platform.ts";
import type { RegistryReference } from "../registry/reference.ts";
import type { ArtifactSource } from "./artifact-source.ts";
import { type ByteSource, readBlob } from "./blob.ts";
import type { SignatureSource } from "./policy/signature-source.ts";
import type { TarPiece } from "./tar-pieces.ts";

export interface ResolvedImage {
  /** sha256:… of `manifestBytes` */
  readonly manifestDigest: string;
  /** Exactly as published: digests are over these bytes. */
  readonly manifestBytes: Uint8Array;
  readonly manifest: ImageManifest;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
  /** Absent: nobody has looked for them. */
  readonly statements?: FoundStatements;
}

/** Signed image statements that came with an image, unchecked and in no order. */
export interface FoundStatements {
  readonly documents: readonly Uint8Array[];
  /** Why there may be more than these: one clause for a message, with where and what went wrong. Null: these are all. */
  readonly gap: string | null;
}

/** A document on the way from a reference to its image, checked against its digest. */
export interface ResolvedDocument {
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/**
 * Asked once the manifest is known, before anything else of the image is read; refuses the image by
 * throwing. `documents`: the indexes that led to the manifest, and last the manifest. `found`: where a
 * registry's image was found, as its name alone may not say (short names).
 */
export type AdmitImage = (
  documents: readonly ResolvedDocument[],
  found?: RegistryReference,
) => Promise<void>;

/** One opened image reference. */
export interface ImageSource {
  /** For messages: "oci:/path:tag". */
  readonly name: string;
  resolve(admit?: AdmitImage): Promise<ResolvedImage>;
  /**
   * The layer's bytes as stored, checked for size and digest while they are read. A transport that keeps
   * layers unpacked gives the tar instead; its reader checks it against `diffId`.
   */
  openLayer(layer: Descriptor, diffId: string): ByteSource;
  /**
   * Bytes from the middle of a layer as the server has them, UNVERIFIED, at most the range. Only for
   * transports where fetching costs. A body that breaks off throws RegistryError("unavailable" or
   * "rate-limited"), a server that cannot start in the middle UnsupportedError("feature").
   */
  readonly openRange?: (layer: Descriptor, range: ByteRange, signal?: AbortSignal) => ByteSource;
  /** A layer whose files lie somewhere already; used instead of `openLayer`. */
  readonly openPieces?: (layer: Descriptor, diffId: string) => AsyncIterable<TarPiece>;
  /** Signatures of its documents; absent where the transport keeps none. */
  readonly signatures?: SignatureSource;
  /** Artifacts that refer to its documents; absent where the transport knows none. */
  readonly artifacts?: ArtifactSource;
  /** Closes connections and removes temporary files, without waiting for anybody. */
  [Symbol.asyncDispose]?(): Promise<void>;
}

/** Bytes [startByte, endByte) of a blob. */
export interface ByteRange {
  readonly startByte: number;
  readonly endByte: number;
}

/** Indexes may point to indexes; a chain longer than this is refused. */
const MAX_INDEX_DEPTH = 4;

/**
 * `open` gives the bytes of a blob, unchecked. `name` is the image in messages.
 * UnsupportedError("architecture") when there is no image for linux on `architecture`.
 */
export async function resolveImage(
  first: Descriptor,
  open: (descriptor: Descriptor) => ByteSource,
  architecture: string,
  name: string,
  admit?: AdmitImage,
): Promise<ResolvedImage> {
  const documents: ResolvedDocument[] = [];
  let descriptor = first;
  for (let depth = 0; depth < MAX_INDEX_DEPTH; depth++) {
    const what = `Manifest ${descriptor.digest} of "${name}"`;
    const bytes = await readDocument(descriptor, open, what);
    const document = parseManifestDocument(bytes, descriptor.mediaType, what);
    documents.push({ digest: descriptor.digest, bytes });
    if (document.kind === "index") {
      descriptor = selectPlatform(document.index, architecture, `Image "${name}"`);
      continue;
    }
    const { manifest } = document;
    await admit?.(documents);
    const configWhat = `Config ${manifest.config.digest} of "${name}"`;
    const configBytes = await readDocument(manifest.config, open, configWhat);
    const config = parseImageConfig(configBytes, manifest.layers.length, configWhat);
    checkPlatform(config, architecture, name);
    const manifestDigest = descriptor.digest;
    return { manifestDigest, manifestBytes: bytes, manifest, configBytes, config };
  }
  throw new FormatError("limit", `Image "${name}" has more than ${MAX_INDEX_DEPTH} nested indexes`);
}

async function readDocument(
  descriptor: Descriptor,
  open: (descriptor: Descriptor) => ByteSource,
  what: string,
): Promise<Uint8Array> {
  if (descriptor.size > MAX_DOCUMENT_BYTES) {
    throw new FormatError(
      "limit",
      `${what} has ${descriptor.size} bytes, at most ${MAX_DOCUMENT_BYTES} are accepted`,
    );
  }
  return await readBlob(open(descriptor), descriptor, what);
}

/** An empty field says nothing. */
function checkPlatform(config: ImageConfig, architecture: string, name: string): void {
  const os = config.os || "linux";
  const found = config.architecture || architecture;
  if (os === "linux" && found === architecture) return;
  throw new UnsupportedError(
    "architecture",
    `Image "${name}" is for ${os}/${found}, not for linux/${architecture}`,
  );
}
