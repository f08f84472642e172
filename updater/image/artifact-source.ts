// Artifacts that refer to an image: small manifests whose `subject` it is, with signatures and the like in their
// layers (OCI image spec 1.1, distribution spec "Listing Referrers"). In a registry, or in the same image layout.
//
// What a list says about the type of an artifact is not to be relied on (old tools write nothing or nonsense
// there), so readers look at the layers.

import * as z from "zod";
import { RegistryError } from "../../shared/error.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";
import {
  type Descriptor,
  MAX_DOCUMENT_BYTES,
  parseImageIndex,
} from "../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import type { RegistryClient } from "../registry/client.ts";
import { readBlob } from "./blob.ts";
import type { LayoutFiles } from "./layout-source.ts";

/** What tools without a type of their own write. */
export const EMPTY_TYPE = "application/vnd.oci.empty.v1+json";
/** A list of referrers must not make us fetch all day. */
export const MAX_REFERRERS = 64;

export interface Artifact {
  /** Of its manifest, checked against the digest in the list. */
  readonly manifestBytes: Uint8Array;
  /** For messages. */
  readonly where: string;
  /** All of a layer, checked; its size is the caller's to bound. */
  readonly readLayer: (layer: Descriptor) => Promise<Uint8Array>;
}

export interface ArtifactSource {
  /**
   * Of the manifest or index with this digest (checked), as they are fetched. `isWanted` is asked about the
   * artifactType that the list gives, if any.
   */
  readArtifacts(
    digest: string,
    isWanted: (artifactType: unknown) => boolean,
  ): AsyncGenerator<Artifact>;
}

export function openRegistryArtifacts(client: RegistryClient): ArtifactSource {
  return {
    async *readArtifacts(digest, isWanted) {
      const referrers = await client.fetchReferrers(digest);
      const candidates = referrers.filter((descriptor) => isWanted(descriptor["artifactType"]));
      for (const { digest: own } of candidates.slice(0, MAX_REFERRERS)) {
        const manifest = await orNull(client.fetchManifest({ digest: own }));
        if (manifest === null) continue;
        const where = `${client.reference.host}/${client.reference.repository}@${own}`;
        yield { manifestBytes: manifest.bytes, where, readLayer: registryLayerReader(client) };
      }
    },
  };
}

export function openLayoutArtifacts(files: LayoutFiles): ArtifactSource {
  return {
    async *readArtifacts(digest, isWanted) {
      const index = parseImageIndex(await files.readFile("index.json"), `Index of ${files.what}`);
      const candidates = index.manifests
        .filter(({ mediaType }) => mediaType === OCI_MANIFEST)
        .filter((descriptor) => descriptor.digest !== digest)
        .filter(({ size }) => size <= MAX_DOCUMENT_BYTES)
        .filter((descriptor) => isWanted(descriptor["artifactType"]));
      const readLayer = layoutLayerReader(files);
      for (const candidate of candidates.slice(0, MAX_REFERRERS)) {
        const manifestBytes = await readLayer(candidate);
        if (readSubject(manifestBytes) !== digest) continue;
        yield { manifestBytes, where: `${candidate.digest} in ${files.what}`, readLayer };
      }
    },
  };
}

export function registryLayerReader(client: RegistryClient): Artifact["readLayer"] {
  return async (layer) => {
    const bytes = client.openBlob(layer.digest, { startByte: 0, endByte: layer.size });
    return await readBlob(bytes, layer, `Signature ${layer.digest}`);
  };
}

export function layoutLayerReader(files: LayoutFiles): Artifact["readLayer"] {
  return async (layer) => await readBlob(files.openBlob(layer), layer, `Signature ${layer.digest}`);
}

/** Nothing there is no failure: it only means no signature. */
export async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RegistryError && error.code === "not-found") return null;
    throw error;
  }
}

const subjectSchema = z.looseObject({
  subject: z.looseObject({ digest: digestSchema }).nullish(),
});

/** What a manifest refers to; null when nothing, or when it is no such document. */
export function readSubject(bytes: Uint8Array): string | null {
  return subjectSchema.safeParse(parseOrNull(bytes)).data?.subject?.digest ?? null;
}

function parseOrNull(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch {
    return null;
  }
}
