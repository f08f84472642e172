// Following redirects, as blobs need it: registries send readers to content networks.
//
// Credentials are for one origin (scheme, host, port): the first step away from it drops the
// Authorization header for good, so a 401 from there is never answered (CVE-2020-15157). From https
// nobody is led to plain http, unless the registry is configured as insecure.

import { RegistryError } from "../../shared/error.ts";
import type { HttpRequest, HttpResponse, HttpTransport } from "./http.ts";
import { MAX_REDIRECTS, MAX_SMALL_BODY_BYTES } from "./limits.ts";

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_LOCATION_CHARS = 16 << 10;

/** The first response that is no redirect. RegistryError("protocol") for those that lead nowhere good. */
export async function sendFollowing(
  transport: HttpTransport,
  request: HttpRequest,
  mayDowngrade: boolean,
): Promise<HttpResponse> {
  let current = request;
  for (let count = 0; ; count++) {
    const response = await transport.send(current);
    if (!REDIRECTS.has(response.status) || current.method !== "GET") return response;
    const location = response.header("location");
    await dismiss(response);
    if (count === MAX_REDIRECTS) {
      throw refusal(request.url, `redirects more than ${MAX_REDIRECTS} times`);
    }
    const url = resolveLocation(location, current.url, mayDowngrade);
    current = { ...current, url, headers: headersFor(url, current) };
  }
}

/** A short body is read, so that the connection can be used again. */
async function dismiss(response: HttpResponse): Promise<void> {
  const length = response.header("content-length");
  if (length !== null && Number(length) <= MAX_SMALL_BODY_BYTES) await response.readSmallBody();
  else response.close();
}

function headersFor(
  url: URL,
  { url: from, headers }: HttpRequest,
): Readonly<Record<string, string>> {
  if (url.origin === from.origin) return headers;
  const { authorization: _, ...others } = headers;
  return others;
}

function resolveLocation(location: string | null, from: URL, mayDowngrade: boolean): URL {
  const url = location === null ? null : parseLocation(location, from);
  if (url === null) throw refusal(from, "redirects without saying where to");
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    throw refusal(from, `redirects to a "${url.protocol}" address`);
  }
  if (url.username !== "" || url.password !== "") {
    throw refusal(from, `redirects to "${url.host}" with a user name in the address`);
  }
  if (from.protocol === "https:" && url.protocol === "http:" && !mayDowngrade) {
    throw refusal(from, `redirects from https to plain http at "${url.host}"`);
  }
  url.hash = "";
  return url;
}

function parseLocation(location: string, from: URL): URL | null {
  if (location.length > MAX_LOCATION_CHARS) return null;
  return URL.parse(location, from.href);
}

function refusal(from: URL, problem: string): RegistryError {
  return new RegistryError("protocol", `"${from.host}" ${problem}, which is not followed`);
}
