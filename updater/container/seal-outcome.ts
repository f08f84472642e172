// After sealing: the result is checked as `verify` checks any image, and only then gets its name.

import { IntegrityError } from "../../shared/error.ts";
import { OCI_MANIFEST } from "../../shared/format/oci/media-type.ts";
import type { ResolvedImage } from "../image/resolved-image.ts";
import { STATEMENT_ANNOTATION } from "../image/statement-source.ts";
import type { SealPlace } from "./seal.ts";
import { type VerifyReport, verifyImage } from "./verify.ts";

/** IntegrityError when the image would not start. `certificates`: paths, PEM. */
export async function checkSealed(
  place: SealPlace,
  image: ResolvedImage,
  certificates: readonly string[],
): Promise<VerifyReport> {
  const text = image.manifest.annotations?.[STATEMENT_ANNOTATION];
  const documents = text === undefined ? [] : [Buffer.from(text)];
  const { directory } = place;
  const request = { certificates, keys: [], now: new Date(), directory };
  const report = await verifyImage(place.repo, image, documents, request);
  if (report.findings.length === 0) return report;
  throw new IntegrityError(
    "digest-mismatch",
    `The image cannot be sealed like this: ${report.findings.join("; ")}`,
  );
}

/** From now on the layout has it. */
export function nameSealed(place: SealPlace, image: ResolvedImage, tag: string | null): void {
  const { manifestDigest: digest, manifestBytes } = image;
  place.layout.commit({ mediaType: OCI_MANIFEST, digest, size: manifestBytes.length }, tag);
}
