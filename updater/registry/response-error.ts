// What a registry's refusal means: status code and error document (distribution spec, "Error codes")
// become a RegistryError. The document comes from outside: only a short printable excerpt is shown.

import * as z from "zod";
import { RegistryError } from "../../shared/error.ts";
import type { HttpResponse } from "./http.ts";
import { parseRetryAfter } from "./retry.ts";

const MAX_EXCERPT_CHARS = 160;

const documentSchema = z.looseObject({
  errors: z
    .array(z.looseObject({ code: z.string().optional(), message: z.string().optional() }))
    .min(1),
});

/**
 * The error for a response that is not what was asked for; reads its body. `secrets` are what must not appear
 * in it, though the server may say them.
 */
export async function refuseStatus(
  response: HttpResponse,
  secrets: readonly string[],
): Promise<RegistryError> {
  const { status } = response;
  const host = `"${response.url.host}"`;
  const retryAfterMs = parseRetryAfter(response.header("retry-after"), Date.now());
  const said = describeDocument(await response.readSmallBody(), secrets);
  const context = { status, ...(retryAfterMs === null ? {} : { retryAfterMs }) };
  const make = (code: RegistryError["code"], text: string) =>
    new RegistryError(code, `${host} ${text}${said}`, context);
  switch (true) {
    case status === 401:
      return make("unauthorized", "wants other credentials (status 401)");
    case status === 403:
      return make("unauthorized", "denies access (status 403)");
    case status === 404:
      return make("not-found", "does not have it (status 404)");
    case status === 429:
      return make("rate-limited", `has a limit of requests (status 429${laterText(retryAfterMs)})`);
    case status === 408 || status >= 500:
      return make("unavailable", `cannot answer now (status ${status}${laterText(retryAfterMs)})`);
    default:
      return make("protocol", `answers with status ${status}`);
  }
}

function laterText(retryAfterMs: number | null): string {
  if (retryAfterMs === null) return "";
  return `, try again in ${Math.ceil(retryAfterMs / 1000)} seconds`;
}

/** ` and says "NAME_UNKNOWN: repository name not known"`, or nothing. */
function describeDocument(bytes: Uint8Array, secrets: readonly string[]): string {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return "";
  }
  const [first] = documentSchema.safeParse(value).data?.errors ?? [];
  const text = [first?.code, first?.message].filter(Boolean).join(": ");
  if (secrets.some((secret) => text.includes(secret))) return "";
  const printable = text.replace(/[^\x20-\x7e]+/g, " ").slice(0, MAX_EXCERPT_CHARS);
  return printable === "" ? "" : ` and says "${printable}"`;
}
