// Signed statements that come with an image (decision 0021): in an annotation of its manifest, and in artifacts
// that refer to it. Found, not judged: whoever can write to a registry can put anything there.
//
// Lazily: artifacts are looked for when the caller wants more than the annotation.

import * as z from "zod";
import { describeError, FormatError, IntegrityError, RegistryError } from "../../shared/error.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import type { Descriptor, ImageManifest } from "../../shared/format/oci/manifest.ts";
import { MAX_DOCUMENT_BYTES } from "../../shared/format/trust/statement.ts";
import { isRetryable } from "../registry/retry.ts";
import { type Artifact, EMPTY_TYPE } from "./artifact-source.ts";
import type { FoundStatements, ImageSource, ResolvedImage } from "./resolved-image.ts";

/** Of an image manifest: the document as text. */
export const STATEMENT_ANNOTATION = "io.bootc-ts.image-statement.v1";
/** Of an artifact, and of its one layer, which is the document. */
export const STATEMENT_TYPE = "application/vnd.bootc-ts.image-statement.v1";

const MAX_STATEMENTS = 16;

export interface FoundStatement {
  /** 8 KiB at most; anything. */
  readonly document: Uint8Array;
  /** For messages: an annotation or an artifact. */
  readonly where: string;
}

/**
 * At most 16. What is too large, or an artifact that is broken, does not hide the others. Throws after all that was
 * found when a registry does not say what refers to the image, or does not give all of it.
 */
export async function* readStatements(
  source: Pick<ImageSource, "name" | "artifacts">,
  image: { readonly manifestDigest: string; readonly manifest: ImageManifest },
): AsyncGenerator<FoundStatement> {
  let count = 0;
  for await (const found of readAll(source, image)) {
    yield found;
    if (++count >= MAX_STATEMENTS) return;
  }
}

/**
 * All statements of the image, once looked for and never twice. Where a registry fails, what was found may be enough
 * all the same, and what it fails with is kept for whoever finds that it is not.
 */
export async function addStatements(
  source: Pick<ImageSource, "name" | "artifacts">,
  image: ResolvedImage,
): Promise<ResolvedImage & { readonly statements: FoundStatements }> {
  if (image.statements !== undefined) return { ...image, statements: image.statements };
  const documents: Uint8Array[] = [];
  let gap: string | null = null;
  try {
    for await (const { document } of readStatements(source, image)) documents.push(document);
  } catch (error) {
    if (!isFromOutside(error)) throw error;
    gap = `not all statements of "${source.name}" could be looked for (${describeError(error)})`;
  }
  return { ...image, statements: { documents, gap } };
}

/** A registry that fails or answers nonsense; not a disk that does, nor a program that was interrupted. */
function isFromOutside(error: unknown): boolean {
  return (
    error instanceof RegistryError ||
    error instanceof FormatError ||
    error instanceof IntegrityError
  );
}

async function* readAll(
  source: Pick<ImageSource, "name" | "artifacts">,
  { manifestDigest, manifest }: Parameters<typeof readStatements>[1],
): AsyncGenerator<FoundStatement> {
  const text = manifest.annotations?.[STATEMENT_ANNOTATION];
  if (text !== undefined && Buffer.byteLength(text) <= MAX_DOCUMENT_BYTES) {
    const where = `the manifest of "${source.name}"`;
    yield { document: Buffer.from(text), where };
  }
  if (source.artifacts === undefined) return;
  const failures: RegistryError[] = [];
  for await (const artifact of source.artifacts.readArtifacts(manifestDigest, mayBeStatement)) {
    for (const layer of listStatementLayers(artifact)) {
      const document = await readOrNull(artifact, layer, failures);
      if (document !== null) yield { document, where: artifact.where };
    }
  }
  if (failures[0] !== undefined) throw failures[0];
}

function mayBeStatement(artifactType: unknown): boolean {
  if (typeof artifactType !== "string" || artifactType === "") return true;
  return artifactType === EMPTY_TYPE || artifactType === STATEMENT_TYPE;
}

const layerSchema = z.looseObject({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.int().nonnegative(),
});
const manifestSchema = z.looseObject({ layers: z.array(layerSchema).max(128).nullish() });

function listStatementLayers({ manifestBytes, where }: Artifact): readonly Descriptor[] {
  try {
    const { layers } = parseJson(manifestSchema, manifestBytes, `Artifact "${where}"`);
    return (layers ?? []).filter(
      ({ mediaType, size }) => mediaType === STATEMENT_TYPE && size <= MAX_DOCUMENT_BYTES,
    );
  } catch (error) {
    if (error instanceof FormatError) return [];
    throw error;
  }
}

/** Null when its bytes are not what the artifact says, or the registry has (`failures`) none. */
async function readOrNull(
  artifact: Artifact,
  layer: Descriptor,
  failures: RegistryError[],
): Promise<Uint8Array | null> {
  try {
    return await artifact.readLayer(layer);
  } catch (error) {
    if (error instanceof IntegrityError) return null;
    // One that is overloaded or gone was asked several times, and is not asked for all the others, too.
    if (!(error instanceof RegistryError) || isRetryable(error)) throw error;
    failures.push(error);
    return null;
  }
}
