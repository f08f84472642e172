// Which boot image an image's deployments will have, and the statements that it comes with.
//
// The digest is computed as the machine does: the layers are unpacked into a repository for the time of the
// command. It depends on nothing but the layers, so annotations of the manifest do not change it. A sealed image
// has the id that its kernel names, which must be its own.

import { FormatError } from "../../shared/error.ts";
import {
  parseSignedStatement,
  type SignedStatement,
  type StatementFormat,
} from "../../shared/format/trust/statement.ts";
import { makeBootImage } from "../image/boot-image.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import { pullResolvedImage } from "../image/pull.ts";
import type { ImageReference } from "../image/reference.ts";
import type { ResolvedDocument, ResolvedImage } from "../image/resolved-image.ts";
import { openSource } from "../image/source.ts";
import { readStatements } from "../image/statement-source.ts";
import { openScratchRepository } from "./scratch-repository.ts";

export interface SignableImage {
  readonly resolved: ResolvedImage;
  /** Digests of the indexes that led to the manifest, and last the manifest's. */
  readonly documents: readonly ResolvedDocument[];
  /** Id of its deployments. */
  readonly digest: string;
  readonly format: StatementFormat;
  /** Readable ones, of whatever image they are. */
  readonly statements: readonly SignedStatement[];
}

/**
 * PolicyError when this machine's policy does not accept the image, FormatError when it cannot boot, IntegrityError
 * when its kernel was sealed for another one; errors of pulling.
 */
export async function readSignableImage(
  reference: ImageReference,
  signal: AbortSignal,
): Promise<SignableImage> {
  await using opened = openSource(reference);
  let documents: readonly ResolvedDocument[] = [];
  const source = {
    ...opened,
    resolve: (admit: Parameters<typeof opened.resolve>[0]) =>
      opened.resolve(async (found, place) => {
        documents = [...found];
        await admit?.(found, place);
      }),
  };
  const { resolved } = await resolveAdmitted(source, reference);
  using scratch = openScratchRepository();
  const pulled = await pullResolvedImage(scratch.repo, opened, resolved, { signal });
  const { deploymentId: digest, seal } = await makeBootImage(scratch.repo, pulled);
  const format = seal?.version === 2 ? "erofs-v2" : "erofs-v1";
  const statements: SignedStatement[] = [];
  for await (const { document, where } of readStatements(opened, resolved)) {
    const statement = parseOrNull(document, where);
    if (statement !== null) statements.push(statement);
  }
  return { resolved, documents, digest, format, statements };
}

/** What nobody can read counts for nothing on any machine. */
function parseOrNull(document: Uint8Array, where: string): SignedStatement | null {
  try {
    return parseSignedStatement(document, where);
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}
