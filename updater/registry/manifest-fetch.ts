// Fetching manifests and indexes: bounded, checked against the digest, and of the kind they are said to be.
//
// Invariant: a digest or tag is checked before it becomes part of a URL (CVE-2024-3727).

import { FormatError, IntegrityError, RegistryError } from "../../shared/error.ts";
import { computeDigest, digestSchema, splitDigest } from "../../shared/format/oci/digest.ts";
import { MAX_DOCUMENT_BYTES } from "../../shared/format/oci/manifest.ts";
import { askEndpoints, type EndpointPool } from "./endpoint-pool.ts";
import type { HttpResponse } from "./http.ts";
import { MANIFEST_TYPES, settleMediaType } from "./manifest-type.ts";

export interface FetchedManifest {
  readonly bytes: Uint8Array;
  /** Of `bytes`; sha256 unless another was asked for. */
  readonly digest: string;
  readonly mediaType: string;
}

export type ManifestTarget = { readonly tag: string } | { readonly digest: string };

const TAG = /^\w[\w.-]{0,127}$/;

export async function fetchManifest(
  pool: EndpointPool,
  target: ManifestTarget,
  name: string,
  signal: AbortSignal | undefined,
): Promise<FetchedManifest> {
  const label = "tag" in target ? target.tag : checkDigest(target.digest, name);
  if ("tag" in target && !TAG.test(label)) {
    throw new FormatError("bad-value", `"${label}" is not a tag of "${name}"`);
  }
  const headers = { accept: MANIFEST_TYPES.join(", ") };
  const path = `manifests/${label}`;
  const what = `Cannot fetch manifest "${label}" of "${name}"`;
  return await askEndpoints(
    pool,
    what,
    async (session) => {
      const response = await session.open({ path, headers, signal });
      const bytes = await readDocument(response);
      const promised = "digest" in target ? target.digest : digestToCheck(response);
      if (promised !== null) checkBytes(bytes, promised, response.url.host);
      const digest = "digest" in target ? target.digest : computeDigest(bytes);
      const mediaType = settleMediaType(response.header("content-type"), bytes, response.url.host);
      return { bytes, digest, mediaType };
    },
    signal,
  );
}

function checkBytes(bytes: Uint8Array, digest: string, host: string): void {
  const found = computeDigest(bytes, splitDigest(digest).algorithm);
  if (found === digest) return;
  throw new IntegrityError(
    "digest-mismatch",
    `"${host}" sent a document with digest ${found} instead of ${digest}`,
    { digest, found },
  );
}

/** The digest that the registry itself gives for what a tag names: checked, so that it is not misled. */
function digestToCheck(response: HttpResponse): string | null {
  const digest = response.header("docker-content-digest");
  return digest !== null && digestSchema.safeParse(digest).success ? digest : null;
}

/** FormatError naming the image. */
export function checkDigest(digest: string, name: string): string {
  if (digestSchema.safeParse(digest).success) return digest;
  throw new FormatError("bad-value", `"${digest.slice(0, 200)}" in "${name}" is not a digest`);
}

/** A small document, whole. FormatError("limit"). */
export async function readDocument(response: HttpResponse): Promise<Uint8Array> {
  const tooLong = () =>
    new FormatError(
      "limit",
      `"${response.url.host}" sent a document of more than ${MAX_DOCUMENT_BYTES} bytes`,
    );
  if (response.status !== 200) {
    response.close();
    throw new RegistryError("protocol", `"${response.url.host}" sent part of a document`);
  }
  if (Number(response.header("content-length") ?? 0) > MAX_DOCUMENT_BYTES) {
    response.close();
    throw tooLong();
  }
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const part of response.body) {
    sizeBytes += part.length;
    if (sizeBytes > MAX_DOCUMENT_BYTES) throw tooLong();
    parts.push(part);
  }
  return Buffer.concat(parts);
}
