// What refers to an image: signatures and the like (distribution spec 1.1, "Listing Referrers").
//
// The API where there is one, else the index under the fallback tag.

import { FormatError, RegistryError } from "../../shared/error.ts";
import { splitDigest } from "../../shared/format/oci/digest.ts";
import { type Descriptor, parseImageIndex } from "../../shared/format/oci/manifest.ts";
import { OCI_INDEX } from "../../shared/format/oci/media-type.ts";
import type { EndpointSession } from "./endpoint.ts";
import { askEndpoints, type EndpointPool } from "./endpoint-pool.ts";
import type { HttpResponse } from "./http.ts";
import { checkDigest, fetchManifest, readDocument } from "./manifest-fetch.ts";

const MAX_REFERRER_PAGES = 16;

/** Empty when nothing does. */
export async function fetchReferrers(
  pool: EndpointPool,
  digest: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  const path = `referrers/${checkDigest(digest, name)}`;
  const what = `Cannot find out what refers to ${digest} of "${name}"`;
  try {
    return await askEndpoints(pool, what, (session) => readPages(session, path, signal), signal);
  } catch (cause) {
    if (!(cause instanceof RegistryError) || !isWithoutReferrers(cause)) throw cause;
  }
  return await fetchReferrersTag(pool, digest, name, signal);
}

/** Registries from before the referrers API answer in several ways. */
function isWithoutReferrers({ code, context }: RegistryError): boolean {
  return code === "not-found" || (code === "protocol" && context["status"] !== undefined);
}

async function readPages(
  session: EndpointSession,
  path: string,
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  const headers = { accept: OCI_INDEX };
  const found: Descriptor[] = [];
  let query = "";
  for (let page = 0; page < MAX_REFERRER_PAGES; page++) {
    const response = await session.open({ path, query, headers, signal });
    const what = `The list of referrers of "${response.url.host}"`;
    found.push(...parseImageIndex(await readDocument(response), what).manifests);
    const next = findNextPage(response);
    if (next === null) return found;
    query = next;
  }
  throw new FormatError("limit", `"${session.endpoint.host}" has too many referrers`);
}

/** Only the query of the next page counts: it is asked of the same place. */
function findNextPage(response: HttpResponse): string | null {
  const link = response.header("link")?.slice(0, 4096) ?? "";
  const [, target] = /<([^>]*)>\s*;\s*rel="?next"?/i.exec(link) ?? [];
  return target === undefined ? null : (URL.parse(target, response.url.href)?.search ?? null);
}

/** The fallback of the distribution spec: an index under a tag made from the digest. */
async function fetchReferrersTag(
  pool: EndpointPool,
  digest: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  const { algorithm, hex } = splitDigest(digest);
  const tag = `${algorithm}-${hex}`.slice(0, 128);
  try {
    const { bytes } = await fetchManifest(pool, { tag }, name, signal);
    return parseImageIndex(bytes, `The list of referrers "${tag}" of "${name}"`).manifests;
  } catch (cause) {
    if (cause instanceof RegistryError && cause.code === "not-found") return [];
    throw cause;
  }
}
