// Checks the OCI images in a repository, above what shared/store/fsck.ts checks: that manifests and
// configs have the digests in their names, refer to each other and to their layers, and that every
// layer's tar can be made again with its diff_id. Kinds: composefs-rs.md 1.8. Changes nothing.
//
// Making the tars reads every byte of every object, so it also finds blocks that fs-verity refuses.
// Of artifacts that another program stored only the objects of their layers are looked for.

import * as z from "zod";
import { describeError, FormatError, IntegrityError } from "../../shared/error.ts";
import { type ImageConfig, parseImageConfig } from "../../shared/format/oci/config.ts";
import { createDigestHash, digestSchema, splitDigest } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import type { ImageManifest } from "../../shared/format/oci/manifest.ts";
import { readSplitStream, readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { type Finding, isDamage } from "../../shared/store/finding.ts";
import { listNames } from "../../shared/store/links.ts";
import { hasObject, inspectObject } from "../../shared/store/object-inspection.ts";
import { openObject, readObject } from "../../shared/store/objects.ts";
import { listRefs } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { read } from "../../shared/sys/file.ts";
import { tagRefName } from "./boot-image.ts";
import {
  configStreamName,
  IMAGE_REF_PREFIX,
  layerStreamName,
  MAX_STREAM_BYTES,
  manifestStreamName,
  readStream,
} from "./image-streams.ts";
import {
  hasDigest,
  parseStoredManifest,
  readStoredDocument,
  type StoredDocument,
} from "./stored-image.ts";

export type ImageFindingKind =
  | "invalid-ref-name"
  | "ref-resolve-failed"
  | "manifest-read-failed"
  | "manifest-digest-mismatch"
  | "manifest-parse-failed"
  | "config-ref-missing"
  | "config-read-failed"
  | "config-digest-mismatch"
  | "config-parse-failed"
  | "layer-ref-missing"
  | "layer-stream-missing"
  | "layer-check-failed"
  | "layer-object-missing"
  | "artifact-layer-ref-missing"
  | "artifact-layer-object-missing"
  | "seal-image-missing"
  | "image-open-failed";

export interface ImageReport {
  readonly findings: readonly Finding<ImageFindingKind>[];
  /** How many of each were looked at. */
  readonly checked: Readonly<Record<"tags" | "manifests" | "layers", number>>;
}

const CHUNK_BYTES = 1 << 20;
const PULL = 'let "fsck --repair" fetch it again, or pull the image again';
const artifactSchema = z.looseObject({ layers: z.array(z.looseObject({ digest: digestSchema })) });
const TAG_DIRECTORY = tagRefName("");
const MANIFEST_PREFIX = manifestStreamName("");
/** Label of a config that was made for one EROFS image. */
const SEAL_LABEL = "containers.composefs.fsverity";

interface Check {
  readonly repo: Repository;
  readonly findings: Finding<ImageFindingKind>[];
  readonly checked: Record<"tags" | "manifests" | "layers", number>;
  /** Layers of the images, each once. */
  readonly diffIds: Set<string>;
}

/** `metadataOnly` leaves out making the tars of the layers. */
export async function checkImages(
  repo: Repository,
  options: { readonly metadataOnly: boolean },
): Promise<ImageReport> {
  const checked = { tags: 0, manifests: 0, layers: 0 };
  const check: Check = { repo, findings: [], checked, diffIds: new Set() };
  const list = <T>(step: () => readonly T[]) =>
    attempt(check, "ref-resolve-failed", "streams", step) ?? [];
  for (const { name, target } of list(() => listRefs(repo, "streams"))) {
    if (name.startsWith(TAG_DIRECTORY)) checkTag(check, name, target);
  }
  for (const name of list(() => listNames(repo, "streams"))) {
    if (name.startsWith(MANIFEST_PREFIX)) checkManifest(check, name);
  }
  for (const diffId of check.diffIds) await checkLayer(check, diffId, options.metadataOnly);
  return { findings: check.findings, checked };
}

function report(
  check: Check,
  kind: ImageFindingKind,
  path: string,
  problem: string,
  object?: string,
): void {
  const isRef = kind === "invalid-ref-name" || kind === "ref-resolve-failed";
  const advice = isRef ? "remove it, or pull the image again" : PULL;
  const finding = { kind, path, problem, advice };
  check.findings.push(object === undefined ? finding : { ...finding, object });
}

function attempt<T>(check: Check, kind: ImageFindingKind, path: string, step: () => T): T | null {
  try {
    return step();
  } catch (error) {
    if (!isDamage(error)) throw error;
    report(check, kind, path, describeError(error));
    return null;
  }
}

function checkTag(check: Check, name: string, target: string): void {
  const path = `streams/refs/${name}`;
  check.checked.tags += 1;
  const tag = name.slice(TAG_DIRECTORY.length);
  if (tag.startsWith("@") || tag.includes("/")) {
    report(check, "invalid-ref-name", path, "It is not the name of a tag");
  }
  const find = () => streamObject(check.repo, target) !== null;
  const isThere = attempt(check, "ref-resolve-failed", path, find);
  if (isThere === false) {
    report(check, "ref-resolve-failed", path, `Stream "${target}" is missing`);
  } else if (!target.startsWith(MANIFEST_PREFIX)) {
    report(check, "ref-resolve-failed", path, `"${target}" is not a manifest`);
  }
}

function checkManifest(check: Check, name: string): void {
  const path = `streams/${name}`;
  check.checked.manifests += 1;
  const document = attempt(check, "manifest-read-failed", path, () =>
    readStoredDocument(check.repo, streamObject(check.repo, name)!),
  );
  if (document === null) return;
  const digest = name.slice(MANIFEST_PREFIX.length);
  if (!hasDigest(document.bytes, digest)) {
    report(check, "manifest-digest-mismatch", path, "The manifest is not the one in the name");
    return;
  }
  attempt(check, "manifest-parse-failed", path, () => {
    const what = `Manifest ${digest}`;
    const manifest = parseUnlessArtifact(document.bytes, what);
    if (manifest !== null) checkConfig(check, path, document, manifest);
    else checkArtifact(check, path, document, parseJson(artifactSchema, document.bytes, what));
  });
}

function parseUnlessArtifact(bytes: Uint8Array, what: string): ImageManifest | null {
  try {
    return parseStoredManifest(bytes, what);
  } catch (error) {
    if (error instanceof FormatError && error.code === "unsupported") return null;
    throw error;
  }
}

/** Each layer is a stream of one object, referred to by the layer's own digest. */
function checkArtifact(
  check: Check,
  path: string,
  { namedRefs }: StoredDocument,
  { layers }: z.infer<typeof artifactSchema>,
): void {
  for (const { digest } of layers) {
    const stream = namedRefs.get(digest);
    if (stream === undefined) {
      report(check, "artifact-layer-ref-missing", path, `It does not refer to layer ${digest}`);
      continue;
    }
    attempt(check, "artifact-layer-object-missing", path, () => {
      const objects = [stream, ...readRefs(check.repo, stream)];
      for (const object of objects.filter((each) => !hasObject(check.repo, each))) {
        const problem = `Object "${object}" of layer ${digest} is missing or damaged`;
        report(check, "artifact-layer-object-missing", path, problem, object);
      }
    });
  }
}

/** None when the stream itself is not there. */
function readRefs(repo: Repository, stream: string): readonly string[] {
  if (!hasObject(repo, stream)) return [];
  return readSplitStreamRefs(readObject(repo, stream, MAX_STREAM_BYTES)).objectRefs;
}

function checkConfig(
  check: Check,
  manifestPath: string,
  { namedRefs }: StoredDocument,
  manifest: ImageManifest,
): void {
  const { repo } = check;
  const { digest } = manifest.config;
  const path = `streams/${configStreamName(digest)}`;
  if (!namedRefs.has(`config:${digest}`)) {
    report(check, "config-ref-missing", manifestPath, `It does not refer to config ${digest}`);
    return;
  }
  const config = attempt(check, "config-read-failed", path, () => {
    const stream = streamObject(repo, configStreamName(digest));
    if (stream !== null) return readStoredDocument(repo, stream);
    throw new IntegrityError("missing-object", "It is missing", { digest });
  });
  if (config === null) return;
  if (!hasDigest(config.bytes, digest)) {
    report(check, "config-digest-mismatch", path, "The config is not the one in the name");
    return;
  }
  const parsed = attempt(check, "config-parse-failed", path, () =>
    parseImageConfig(config.bytes, manifest.layers.length, `Config ${digest}`),
  );
  if (parsed === null) return;
  checkSeal(check, path, parsed);
  checkNamedImages(check, path, config);
  for (const diffId of parsed.rootfs.diff_ids) {
    check.diffIds.add(diffId);
    for (const [owner, refs] of [
      [manifestPath, namedRefs],
      [path, config.namedRefs],
    ] as const) {
      if (refs.has(diffId)) continue;
      report(check, "layer-ref-missing", owner, `It does not refer to layer ${diffId}`);
    }
  }
}

/** That they are named in images/; what is wrong with them the check of the repository says. */
function checkNamedImages(check: Check, path: string, { namedRefs }: StoredDocument): void {
  const named = attempt(check, "image-open-failed", path, () => listNames(check.repo, "images"));
  if (named === null) return;
  for (const [name, id] of namedRefs) {
    if (!name.startsWith(IMAGE_REF_PREFIX) || named.includes(id)) continue;
    report(check, "image-open-failed", `images/${id}`, `It is missing, "${name}" of ${path}`);
  }
}

function checkSeal(check: Check, path: string, config: ImageConfig): void {
  const image = config.config?.Labels?.[SEAL_LABEL];
  if (image === undefined || listNames(check.repo, "images").includes(image)) return;
  report(check, "seal-image-missing", path, `Image "${image}" of its label is missing`);
}

async function checkLayer(check: Check, diffId: string, metadataOnly: boolean): Promise<void> {
  const { repo } = check;
  const name = layerStreamName(diffId);
  const path = `streams/${name}`;
  check.checked.layers += 1;
  try {
    const stream = readStream(repo, name);
    if (stream === null) {
      report(check, "layer-stream-missing", path, "It is missing");
      return;
    }
    const { objectRefs } = readSplitStreamRefs(stream);
    const missing = objectRefs.filter((each) => !hasObject(repo, each));
    for (const digest of missing) {
      const problem = `Object "${digest}" is missing or damaged`;
      report(check, "layer-object-missing", path, problem, digest);
    }
    if (metadataOnly || missing.length > 0) return;
    const found = await attemptTar(repo, stream, diffId);
    if (found === diffId) return;
    if (findUnreadable(check, path, objectRefs)) return;
    report(check, "layer-check-failed", path, found);
  } catch (error) {
    if (!isDamage(error)) throw error;
    report(check, "layer-check-failed", path, describeError(error));
  }
}

/** The diff_id when all is well, else what is wrong. */
async function attemptTar(repo: Repository, stream: Uint8Array, diffId: string): Promise<string> {
  try {
    const found = await digestTar(repo, stream, diffId);
    return found === diffId ? diffId : `Its tar has digest ${found}`;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return describeError(error);
  }
}

/** Which objects it is because of; with fs-verity only reading them tells. */
function findUnreadable(check: Check, path: string, digests: readonly string[]): boolean {
  const before = check.findings.length;
  for (const digest of digests) {
    let problem: string | null = null;
    try {
      const state = inspectObject(check.repo, digest, { deep: true });
      if (state !== "good") problem = `Object "${digest}": ${state}`;
    } catch (error) {
      if (!isDamage(error)) throw error;
      problem = `Object "${digest}" cannot be read: ${describeError(error)}`;
    }
    if (problem !== null) report(check, "layer-check-failed", path, problem, digest);
  }
  return check.findings.length > before;
}

/** Digest, with the algorithm of `diffId`, of the tar that the splitstream stands for. */
async function digestTar(repo: Repository, stream: Uint8Array, diffId: string): Promise<string> {
  const hash = createDigestHash(diffId);
  const buffer = new Uint8Array(CHUNK_BYTES);
  await readSplitStream(stream, "ocilayer", {
    inline: (bytes) => void hash.update(bytes),
    external: (digest) => {
      using fd = openObject(repo, digest);
      let sizeBytes = 0;
      for (let count = read(fd, buffer); count > 0; count = read(fd, buffer)) {
        hash.update(buffer.subarray(0, count));
        sizeBytes += count;
      }
      return sizeBytes;
    },
  });
  return `${splitDigest(diffId).algorithm}:${hash.digest("hex")}`;
}
