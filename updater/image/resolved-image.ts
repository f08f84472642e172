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
import { type ByteSource, readBlob } from "./blob.ts";

export interface ResolvedImage {
  /** sha256:… of `manifestBytes` */
  readonly manifestDigest: string;
  /** Exactly as published: digests are over these bytes. */
  readonly manifestBytes: Uint8Array;
  readonly manifest: ImageManifest;
  readonly configBytes: Uint8Array;
  readonly config: ImageConfig;
}

/** One opened image reference. */
export interface ImageSource {
  /** For messages: "oci:/path:tag". */
  readonly name: string;
  resolve(): Promise<ResolvedImage>;
  /** The layer's bytes as stored, checked for size and digest while they are read. */
  openLayer(layer: Descriptor): ByteSource;
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
): Promise<ResolvedImage> {
  let descriptor = first;
  for (let depth = 0; depth < MAX_INDEX_DEPTH; depth++) {
    const what = `Manifest ${descriptor.digest} of "${name}"`;
    const bytes = await readDocument(descriptor, open, what);
    const document = parseManifestDocument(bytes, descriptor.mediaType, what);
    if (document.kind === "index") {
      descriptor = selectPlatform(document.index, architecture, `Image "${name}"`);
      continue;
    }
    const { manifest } = document;
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
