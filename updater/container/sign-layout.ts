// Attaching a signed statement to an image in an OCI layout: as an annotation of its manifest, which gets another
// digest by that, or as an artifact that refers to the manifest (decision 0021).
//
// Everything is decided before anything is written; blobs come first, index.json last. What other tags
// name stays as it is, also where it was the same manifest.

import { StateError, UsageError } from "../../shared/error.ts";
import {
  type Descriptor,
  type ImageIndex,
  MAX_DOCUMENT_BYTES,
} from "../../shared/format/oci/manifest.ts";
import { DOCKER_MANIFEST, OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import { readSmallFile } from "../../shared/sys/small-file.ts";
import { EMPTY_TYPE, readSubject } from "../image/artifact-source.ts";
import { type PathReference, splitPathReference } from "../image/path-reference.ts";
import type { ImageReference } from "../image/reference.ts";
import { STATEMENT_ANNOTATION, STATEMENT_TYPE } from "../image/statement-source.ts";
import { LayoutWriter } from "./layout-writer.ts";
import type { SignableImage } from "./sign-image.ts";

export type Attachment = "annotation" | "referrer";

export interface AttachedStatement {
  /** Of the image's manifest, now. */
  readonly manifestDigest: string;
  /** Of the artifact's manifest; null for annotations. */
  readonly artifactDigest: string | null;
}

const TAG = "org.opencontainers.image.ref.name";
const EMPTY = Buffer.from("{}");

/** UsageError when the image is not in a directory; it is asked before anything is signed. */
export function requireLayout({ transport, image }: ImageReference): PathReference {
  if (transport === "oci") return splitPathReference(image);
  throw new UsageError(
    "conflict",
    `Statements are attached to images in OCI directories ("oci:PATH"), not to "${transport}"; copy the image there, or use --output`,
  );
}

/** StateError("conflict") when the layout changed meanwhile. */
export function attachStatement(
  place: PathReference,
  image: SignableImage,
  document: string,
  attachment: Attachment,
): AttachedStatement {
  using layout = new LayoutWriter(place.path);
  if (attachment === "referrer") return attachArtifact(layout, image, document);
  return attachAnnotation(layout, place, image, document);
}

function attachAnnotation(
  layout: LayoutWriter,
  place: PathReference,
  { documents, resolved }: SignableImage,
  document: string,
): AttachedStatement {
  const { manifest } = resolved;
  if (manifest.mediaType === DOCKER_MANIFEST) {
    throw new UsageError(
      "conflict",
      'Manifests of Docker\'s kind have no annotations; use --attach referrer, or copy the image with "skopeo copy --format oci"',
    );
  }
  // Key by key as it was: whoever reads the manifest sees that only this was added.
  const changed = {
    ...parse(resolved.manifestBytes),
    annotations: { ...manifest.annotations, [STATEMENT_ANNOTATION]: document },
  };
  let child = put(layout, resolved.manifestDigest, changed);
  const manifestDigest = child.digest;
  for (const { bytes, digest } of documents.slice(0, -1).toReversed()) {
    const index = parse(bytes) as unknown as ImageIndex;
    child = put(layout, digest, { ...index, manifests: replaceAll(index.manifests, child) });
  }
  const isChosen = chooseEntry(place, child.old);
  layout.changeIndex((index) => {
    const changes = index.manifests.filter((entry, at) => isChosen(entry, at));
    if (changes.length === 0) throw changedMeanwhile(place);
    const manifests = index.manifests.map((entry, at) =>
      isChosen(entry, at) ? { ...entry, digest: child.digest, size: child.size } : entry,
    );
    return { ...index, manifests };
  });
  return { manifestDigest, artifactDigest: null };
}

interface NewBlob {
  readonly old: string;
  readonly digest: string;
  readonly size: number;
}

function put(layout: LayoutWriter, old: string, value: object): NewBlob {
  return { old, ...layout.putBytes(Buffer.from(JSON.stringify(value))) };
}

function replaceAll(
  manifests: readonly Descriptor[],
  { old, digest, size }: NewBlob,
): readonly Descriptor[] {
  return manifests.map((each) => (each.digest === old ? { ...each, digest, size } : each));
}

/** The entries of index.json that the reference means: a tag that leads there, or the place in the list. */
function chooseEntry({ choice }: PathReference, digest: string) {
  return (entry: Descriptor, at: number): boolean => {
    if (entry.digest !== digest) return false;
    if (choice === null) return true;
    return choice.kind === "index" ? choice.index === at : entry.annotations?.[TAG] === choice.name;
  };
}

function attachArtifact(
  layout: LayoutWriter,
  { resolved }: SignableImage,
  document: string,
): AttachedStatement {
  const { manifestDigest, manifestBytes, manifest } = resolved;
  const bytes = Buffer.from(document);
  const artifact = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: STATEMENT_TYPE,
    config: { mediaType: EMPTY_TYPE, ...layout.putBytes(EMPTY), data: EMPTY.toString("base64") },
    layers: [{ mediaType: STATEMENT_TYPE, ...layout.putBytes(bytes) }],
    subject: {
      mediaType: manifest.mediaType ?? OCI_MANIFEST,
      digest: manifestDigest,
      size: manifestBytes.length,
    },
  };
  const blob = layout.putBytes(Buffer.from(JSON.stringify(artifact)));
  const entry: Descriptor = { mediaType: OCI_MANIFEST, ...blob, artifactType: STATEMENT_TYPE };
  layout.changeIndex((index) => {
    const rest = index.manifests.filter((each) => !isOwnArtifact(layout, each, manifestDigest));
    return { ...index, manifests: [...rest, entry] };
  });
  return { manifestDigest, artifactDigest: blob.digest };
}

/** An earlier statement of the same image; the new one has taken over what is in it. */
function isOwnArtifact(layout: LayoutWriter, entry: Descriptor, subject: string): boolean {
  if (entry["artifactType"] !== STATEMENT_TYPE) return false;
  const bytes = readSmallFile(layout.path(entry.digest), MAX_DOCUMENT_BYTES);
  return bytes !== null && readSubject(bytes) === subject;
}

/** A document that was checked against its schema already. */
function parse(bytes: Uint8Array): Record<string, unknown> {
  return JSON.parse(Buffer.from(bytes).toString("utf8"));
}

function changedMeanwhile({ path }: PathReference): StateError {
  return new StateError(
    "conflict",
    `"${path}" was changed by another program meanwhile; sign the image again`,
    { path },
  );
}
