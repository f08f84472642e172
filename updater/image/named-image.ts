// An OCI image of the repository by the name people give it: a tag, or "@" and a digest. Reads what `cfs oci`
// shows of it; what is read is checked against its digest.

import { IntegrityError, StateError, UsageError } from "../../shared/error.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";
import type { ImageManifest } from "../../shared/format/oci/manifest.ts";
import { listRefs } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { tagRefName } from "./boot-image.ts";
import { configStreamName, IMAGE_REF_PREFIX, manifestStreamName } from "./image-streams.ts";
import {
  hasDigest,
  parseStoredManifest,
  readStoredDocument,
  type StoredDocument,
} from "./stored-image.ts";

export interface NamedManifest extends StoredDocument {
  readonly digest: string;
  readonly manifest: ImageManifest;
}

export interface NamedConfig extends StoredDocument {
  readonly digest: string;
  readonly config: ImageConfig;
}

/** `name` is a tag, or "@" and the digest of a manifest. StateError("missing") when there is none. */
export function readNamedManifest(repo: Repository, name: string): NamedManifest {
  const digest = name.startsWith("@") ? checkDigest(name.slice(1)) : findTag(repo, name);
  const what = `Manifest ${digest}`;
  const document = readDocument(repo, manifestStreamName(digest), digest, what);
  return { ...document, digest, manifest: parseStoredManifest(document.bytes, what) };
}

/** The same for its config; after "@" may also be the digest of the config itself. */
export function readNamedConfig(repo: Repository, name: string): NamedConfig {
  const digest = name.startsWith("@") ? checkDigest(name.slice(1)) : null;
  if (digest !== null && streamObject(repo, configStreamName(digest)) !== null) {
    return readConfig(repo, digest, null);
  }
  const { manifest } = readNamedManifest(repo, name);
  return readConfig(repo, manifest.config.digest, manifest.layers.length);
}

export function readConfigOf(repo: Repository, { manifest }: NamedManifest): NamedConfig {
  return readConfig(repo, manifest.config.digest, manifest.layers.length);
}

/** Digest of the EROFS image that was made of it in the repository's format; null when there is none. */
export function linkedImage(
  repo: Repository,
  { namedRefs }: NamedConfig,
  options: { readonly bootable: boolean },
): string | null {
  const boot = options.bootable ? ".boot" : "";
  return namedRefs.get(`${IMAGE_REF_PREFIX}${boot}${repo.erofsVersion === 2 ? "" : ".v1"}`) ?? null;
}

/** Manifests (signatures, attestations) that name this one as their subject. */
export function listReferrers(repo: Repository, manifestDigest: string): readonly string[] {
  const prefix = `oci-referrers/${manifestDigest}/`;
  return listRefs(repo, "streams")
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ name }) => name.slice(prefix.length));
}

function readConfig(repo: Repository, digest: string, layerCount: number | null): NamedConfig {
  const what = `Config ${digest}`;
  const document = readDocument(repo, configStreamName(digest), digest, what);
  return { ...document, digest, config: parseImageConfig(document.bytes, layerCount, what) };
}

function readDocument(
  repo: Repository,
  streamName: string,
  digest: string,
  what: string,
): StoredDocument {
  const stream = streamObject(repo, streamName);
  if (stream === null) throw new StateError("missing", `${what} is not in "${repo.path}"`);
  const document = readStoredDocument(repo, stream);
  if (hasDigest(document.bytes, digest)) return document;
  throw new IntegrityError("digest-mismatch", `${what} is damaged; pull the image again`, {
    digest,
  });
}

function findTag(repo: Repository, tag: string): string {
  const refName = tagRefName(tag);
  const ref = listRefs(repo, "streams").find(({ name }) => name === refName);
  if (ref !== undefined) return ref.target.replace(manifestStreamName(""), "");
  throw new StateError("missing", `"${repo.path}" has no image "${tag}"; see "oci images"`);
}

/** What may become part of a stream's name. */
export function checkDigest(text: string): string {
  if (digestSchema.safeParse(text).success) return text;
  throw new UsageError("bad-value", `"${text}" is not a digest like "sha256:…"`);
}
