// Names and contents of the streams of an OCI image in the repository (composefs-rs.md 2.1).
//
//   oci-layer-<diff_id>         the tar
//   oci-config-<digest>         the config JSON; refers to layers (by diff_id) and to EROFS images
//   oci-manifest-<digest>       the manifest JSON; refers to the config ("config:<digest>") and layers
//   refs/oci/<encoded name>     a tag: what garbage collection starts from
// Config and manifest streams are replaced when images are added; their JSON never changes.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import type { ContentType } from "../../shared/format/splitstream/format.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import { createObject, readObject, storeObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { publishStream, streamObject } from "../../shared/store/streams.ts";
import type { ResolvedImage } from "./resolved-image.ts";

/** Splitstreams hold headers, compressed; one of a million files has about 40 MiB. */
export const MAX_STREAM_BYTES = 512 << 20;
/** Named references of a config to EROFS images begin with this. */
export const IMAGE_REF_PREFIX = "composefs.image";

export function layerStreamName(diffId: string): string {
  return `oci-layer-${diffId}`;
}

export function configStreamName(configDigest: string): string {
  return `oci-config-${configDigest}`;
}

export function manifestStreamName(manifestDigest: string): string {
  return `oci-manifest-${manifestDigest}`;
}

/** The splitstream file behind a stream name, null when there is none. */
export function readStream(repo: Repository, name: string): Uint8Array | null {
  const digest = streamObject(repo, name);
  return digest === null ? null : readObject(repo, digest, MAX_STREAM_BYTES);
}

/** Stores a finished splitstream as one object. */
export async function storeStream(repo: Repository, writer: SplitStreamWriter): Promise<string> {
  const pieces = await writer.finish();
  using object = createObject(repo);
  for (const piece of pieces) object.write(piece);
  return object.finish().digest;
}

/**
 * Writes and publishes config and manifest streams; the layers must be published already. `images`
 * maps reference names ("composefs.image.v1") to EROFS digests; those an earlier pull recorded stay.
 */
export async function publishImageStreams(
  repo: Repository,
  image: ResolvedImage,
  images: ReadonlyMap<string, string>,
): Promise<void> {
  const configName = configStreamName(image.manifest.config.digest);
  const manifestName = manifestStreamName(image.manifestDigest);
  const layers = new Map(
    image.config.rootfs.diff_ids.map((diffId) => [diffId, requireLayer(repo, diffId)]),
  );
  const kept = readImageRefs(repo, configName);
  const config = await storeDocument(
    repo,
    "ociconfg",
    image.configBytes,
    new Map([...layers, ...kept, ...images]),
  );
  const manifest = await storeDocument(
    repo,
    "ocimanif",
    image.manifestBytes,
    new Map([[`config:${image.manifest.config.digest}`, config], ...layers]),
  );
  publishStream(repo, configName, config);
  publishStream(repo, manifestName, manifest);
}

function requireLayer(repo: Repository, diffId: string): string {
  const digest = streamObject(repo, layerStreamName(diffId));
  if (digest !== null) return digest;
  throw new IntegrityError("missing-object", `Layer ${diffId} is not in the repository`, {
    diffId,
  });
}

/** None when the old stream is damaged: the new one takes its place. */
function readImageRefs(repo: Repository, configName: string): [string, string][] {
  try {
    const stream = readStream(repo, configName);
    if (stream === null) return [];
    return [...readSplitStreamRefs(stream).namedRefs].filter(([name]) =>
      name.startsWith(IMAGE_REF_PREFIX),
    );
  } catch (error) {
    if (error instanceof IntegrityError || error instanceof FormatError) return [];
    throw error;
  }
}

/** A stream of one document, which is an object of its own whatever its size. */
async function storeDocument(
  repo: Repository,
  contentType: ContentType,
  bytes: Uint8Array,
  namedRefs: ReadonlyMap<string, string>,
): Promise<string> {
  using writer = new SplitStreamWriter(repo.algorithm, contentType);
  writer.writeExternal(storeObject(repo, bytes), bytes.length);
  for (const [name, digest] of namedRefs) writer.addNamedRef(name, digest);
  return await storeStream(repo, writer);
}
