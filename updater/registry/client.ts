// The client of one repository in a registry, with its mirrors (OCI distribution spec 1.1).
//
// What comes from an endpoint is judged before it counts; blobs come unverified. Nothing but the endpoints'
// own API is asked: `urls` in descriptors are never followed.

import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { type ByteRange, readBlobRange } from "./blob-range.ts";
import { openEndpointSession } from "./endpoint.ts";
import type { EndpointPool } from "./endpoint-pool.ts";
import { openHttpTransport } from "./http.ts";
import { type FetchedManifest, fetchManifest, type ManifestTarget } from "./manifest-fetch.ts";
import { formatRegistryReference, type RegistryReference } from "./reference.ts";
import { fetchReferrers } from "./referrers.ts";
import { openSystemAccess, type RegistryAccess } from "./system-access.ts";

export interface RegistryClient extends AsyncDisposable {
  readonly reference: RegistryReference;
  /**
   * By digest: checked against it. RegistryError; IntegrityError when all endpoints have other bytes;
   * FormatError when the document is not what it is said to be.
   */
  fetchManifest(target: ManifestTarget, signal?: AbortSignal): Promise<FetchedManifest>;
  /**
   * Bytes of a blob as some endpoint has them: unverified, never more than the range, and a body that ends
   * before the range does throws. RegistryError "unavailable" and "rate-limited", before the first byte or in
   * the middle, may pass: the next call begins with another endpoint where there is one.
   * UnsupportedError("feature"): no endpoint gives parts of blobs; ask from 0 on.
   */
  openBlob(digest: string, range: ByteRange, signal?: AbortSignal): AsyncIterable<Uint8Array>;
  /** Descriptors of what refers to the manifest `digest`; empty when nothing does. */
  fetchReferrers(digest: string, signal?: AbortSignal): Promise<readonly Descriptor[]>;
}

/** Nothing is asked before the first call. PolicyError when the configuration blocks the image. */
export function openRegistryClient(
  reference: RegistryReference,
  access: RegistryAccess = openSystemAccess(),
): RegistryClient {
  const transport = openHttpTransport(access);
  const { userAgent } = access;
  const sessions = access.listEndpoints(reference).map((endpoint) =>
    openEndpointSession({
      ...{ transport, endpoint, userAgent },
      findCredentials: () => access.findCredentials(endpoint),
      adviseOnCredentials: () => access.adviseOnCredentials(endpoint),
      adviseOnCertificates: (missing) => access.adviseOnCertificates(endpoint, missing),
    }),
  );
  const name = formatRegistryReference(reference);
  const pool: EndpointPool = { sessions, faults: new Map(), limits: access.limits };
  return {
    reference,
    fetchManifest: (target, signal) => fetchManifest(pool, target, name, signal),
    openBlob: (digest, range, signal) => readBlobRange(pool, digest, range, name, signal),
    fetchReferrers: (digest, signal) => fetchReferrers(pool, digest, name, signal),
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  };
}
