// One image as a repair sees it: its documents, layers and EROFS images, as far as they can still be read.

import { FormatError } from "../../shared/error.ts";
import { parseImageConfig } from "../../shared/format/oci/config.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { type Finding, isDamage } from "../../shared/store/finding.ts";
import { type Category, linkedObject } from "../../shared/store/links.ts";
import { hasObject } from "../../shared/store/object-inspection.ts";
import { readObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import {
  configStreamName,
  IMAGE_REF_PREFIX,
  layerStreamName,
  MAX_STREAM_BYTES,
  manifestStreamName,
} from "./image-streams.ts";
import type { ImageUser } from "./repair-source.ts";
import type { ResolvedImage } from "./resolved-image.ts";
import {
  hasDigest,
  parseStoredManifest,
  readStoredDocument,
  type StoredDocument,
} from "./stored-image.ts";

export interface LayerSurvey {
  readonly diffId: string;
  readonly descriptor: Descriptor;
  /** Object its name in streams/ stands for. */
  readonly linked: string | null;
  /** The object to use: a splitstream that can be read, preferably the linked one. */
  readonly stream: string | null;
  /** Bad objects among its files. */
  readonly damaged: readonly string[];
  /** All objects are good, but the tar is another one. */
  readonly isWrong: boolean;
}

export interface ImageSurvey {
  readonly manifestDigest: string;
  readonly users: readonly ImageUser[];
  /** Null when its manifest or config cannot be read. */
  readonly documents: ResolvedImage | null;
  readonly layers: readonly LayerSurvey[];
  /** Its manifest or config stream lacks a reference or has one to something bad. */
  readonly hasStaleRefs: boolean;
  readonly erofs: readonly ErofsSurvey[];
  /** Streams whose name lost its object, which is known and good. */
  readonly unlinked: readonly { readonly name: string; readonly object: string }[];
}

export interface ErofsSurvey {
  /** Of the reference in the config stream; null for an image that only a deployment knows. */
  readonly name: string | null;
  readonly id: string;
  /** "unlinked": the object is good, its name in images/ is not. */
  readonly state: "good" | "unlinked" | "bad";
}

export interface Context {
  readonly repo: Repository;
  readonly findings: readonly Finding[];
  readonly bad: ReadonlyMap<string, "damaged" | "unsealed">;
}

export function surveyImage(
  context: Context,
  manifestDigest: string,
  users: readonly ImageUser[],
): ImageSurvey {
  const stored = readDocuments(context, manifestDigest);
  const named = [...(stored?.configRefs ?? [])].filter(([name]) =>
    name.startsWith(IMAGE_REF_PREFIX),
  );
  const deployed = users.flatMap(({ deploymentId: id }) => id ?? []);
  const known = new Map<string, string | null>([
    ...deployed.map((id): [string, null] => [id, null]),
    ...named.map(([name, id]): [string, string] => [id, name]),
  ]);
  const erofs = [...known].map(([id, name]) => ({ name, id, state: judgeImage(context, id) }));
  if (stored === null) {
    const nothing = { documents: null, layers: [], hasStaleRefs: false, unlinked: [] };
    return { manifestDigest, users, ...nothing, erofs };
  }
  const { documents, manifestRefs, configRefs, configObject } = stored;
  const { manifest, config } = documents;
  const layers = config.rootfs.diff_ids.map((diffId, i) =>
    surveyLayer(context, diffId, manifest.layers[i]!, [manifestRefs, configRefs]),
  );
  const configName = configStreamName(manifest.config.digest);
  const linkedConfig = presentStream(context.repo, configName);
  const pairs = [
    [manifestRefs.get(`config:${manifest.config.digest}`), linkedConfig] as const,
    ...[manifestRefs, configRefs].flatMap((refs) =>
      layers.map(({ diffId, linked }) => [refs.get(diffId), linked] as const),
    ),
  ];
  return {
    manifestDigest,
    users,
    documents,
    layers: [...new Map(layers.map((layer) => [layer.diffId, layer])).values()],
    hasStaleRefs: pairs.some(([reference, linked]) => isStale(context, reference, linked)),
    erofs,
    unlinked: linkedConfig === null ? [{ name: configName, object: configObject }] : [],
  };
}

/** A difference alone is no fault: a layer may have been imported again, and both are good. */
function isStale({ bad }: Context, reference: string | undefined, linked: string | null): boolean {
  if (reference === undefined) return true;
  return linked !== null && reference !== linked && bad.has(reference);
}

/** Of another program; only it knows how to fetch it again. */
export function isArtifact(repo: Repository, manifestDigest: string): boolean {
  return attempt(() => {
    const stored = readDocument(
      repo,
      presentStream(repo, manifestStreamName(manifestDigest)),
      manifestDigest,
    );
    if (stored === null) return false;
    try {
      parseStoredManifest(stored.bytes, manifestDigest);
    } catch (error) {
      return error instanceof FormatError && error.code === "unsupported";
    }
    return false;
  }, false);
}

interface StoredDocuments {
  readonly documents: ResolvedImage;
  readonly manifestRefs: ReadonlyMap<string, string>;
  readonly configRefs: ReadonlyMap<string, string>;
  /** The splitstream of the config. */
  readonly configObject: string;
}

function readDocuments({ repo }: Context, manifestDigest: string): StoredDocuments | null {
  return attempt(() => {
    const manifestObject = presentStream(repo, manifestStreamName(manifestDigest));
    const stored = readDocument(repo, manifestObject, manifestDigest);
    if (stored === null) return null;
    const { bytes: manifestBytes, namedRefs: manifestRefs } = stored;
    const manifest = parseStoredManifest(manifestBytes, manifestDigest);
    const { digest } = manifest.config;
    // The manifest's stream knows the config's object, whatever became of its name.
    const known = manifestRefs.get(`config:${digest}`) ?? null;
    const configObject = presentStream(repo, configStreamName(digest)) ?? known;
    const configStored = readDocument(repo, configObject, digest);
    if (configObject === null || configStored === null) return null;
    const { bytes: configBytes, namedRefs: configRefs } = configStored;
    const config = parseImageConfig(configBytes, manifest.layers.length, digest);
    const documents = { manifestDigest, manifestBytes, manifest, configBytes, config };
    return { documents, manifestRefs, configRefs, configObject };
  }, null);
}

function readDocument(
  repo: Repository,
  object: string | null,
  digest: string,
): StoredDocument | null {
  if (object === null || !hasObject(repo, object)) return null;
  const document = readStoredDocument(repo, object);
  return hasDigest(document.bytes, digest) ? document : null;
}

function judgeImage({ repo, bad }: Context, id: string): ErofsSurvey["state"] {
  return attempt(() => {
    if (bad.has(id) || !hasObject(repo, id)) return "bad";
    return presentObject(repo, "images", id) === id ? "good" : "unlinked";
  }, "bad");
}

function surveyLayer(
  { repo, findings, bad }: Context,
  diffId: string,
  descriptor: Descriptor,
  refs: readonly ReadonlyMap<string, string>[],
): LayerSurvey {
  const name = layerStreamName(diffId);
  const linked = presentStream(repo, name);
  const isWrong = findings.some(
    ({ kind, path, object }) =>
      kind === "layer-check-failed" && path === `streams/${name}` && object === undefined,
  );
  const others = refs.flatMap((each) => each.get(diffId) ?? []);
  const usable = new Set([...(linked === null || isWrong ? [] : [linked]), ...others]);
  for (const stream of usable) {
    if (isWrong && stream === linked) continue;
    const files = bad.get(stream) === "damaged" ? null : readFiles(repo, stream);
    if (files === null) continue;
    const damaged = [...new Set(files)].filter((file) => bad.has(file));
    return { diffId, descriptor, linked, stream, damaged, isWrong };
  }
  return { diffId, descriptor, linked, stream: null, damaged: [], isWrong };
}

function readFiles(repo: Repository, stream: string): readonly string[] | null {
  return attempt(
    () => readSplitStreamRefs(readObject(repo, stream, MAX_STREAM_BYTES)).objectRefs,
    null,
  );
}

function presentStream(repo: Repository, name: string): string | null {
  return presentObject(repo, "streams", name);
}

/** Null also when the object is gone. */
export function presentObject(repo: Repository, category: Category, name: string): string | null {
  return attempt(() => {
    const digest = linkedObject(repo, category, name);
    return digest !== null && hasObject(repo, digest) ? digest : null;
  }, null);
}

/** A step that reads; `otherwise` when there is damage in its way. */
export function attempt<T>(step: () => T, otherwise: T): T {
  try {
    return step();
  } catch (error) {
    if (!isDamage(error)) throw error;
    return otherwise;
  }
}
