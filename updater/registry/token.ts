// Bearer tokens of registries (distribution's token and OAuth2 specifications).
//
// With a password or without: GET realm?service=…&scope=…, Basic when there is a password. With an
// identity token (what `docker login` keeps for some registries): POST, grant_type=refresh_token.
// Invariants: the scope asked for is reading this repository; credentials go to the realm over https,
// or over plain http only where the registry itself is talked to that way and the realm is on the same
// machine; answers are bounded and a token is checked before it becomes a header.

import * as z from "zod";
import { RegistryError } from "../../shared/error.ts";
import { basicAuthorization } from "./basic.ts";
import type { Credentials } from "./credentials.ts";
import type { HttpRequest, HttpTransport } from "./http.ts";
import type { Proxy as ProxyServer } from "./proxy.ts";
import { sendFollowing } from "./redirect.ts";
import { refuseStatus } from "./response-error.ts";

export interface TokenRequest {
  readonly realm: string | undefined;
  readonly service: string | undefined;
  /** Of the challenge. */
  readonly scope: string | undefined;
  readonly repository: string;
  readonly credentials: Credentials | null;
  /** Where the challenge came from. */
  readonly registry: URL;
  readonly isInsecure: boolean;
  /** host[:port] as configured, and the proxy configured for it. */
  readonly host: string;
  readonly proxy: ProxyServer | null;
  readonly userAgent: string;
}

export interface Token {
  readonly text: string;
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number;
}

const DEFAULT_LIFE_SECONDS = 60;
const MAX_LIFE_SECONDS = 24 * 3600;

const tokenSchema = z.string().regex(/^[\x21-\x7e]{1,32768}$/, "is not a token");
const answerSchema = z.looseObject({
  token: tokenSchema.optional().catch(undefined),
  access_token: tokenSchema.optional().catch(undefined),
  expires_in: z.number().nonnegative().optional().catch(undefined),
});

/** RegistryError("unauthorized") when the realm says no, "protocol" when it makes no sense. */
export async function fetchToken(transport: HttpTransport, request: TokenRequest): Promise<Token> {
  const realm = parseRealm(request);
  const isSameHost = realm.hostname === request.registry.hostname;
  if (request.credentials !== null) checkRealm(realm, request);
  const common = {
    isVerified: !(request.isInsecure && isSameHost),
    onBehalfOf: request.host,
    proxy: request.proxy,
  };
  const response = await sendFollowing(
    transport,
    request.credentials?.kind === "identity-token"
      ? { ...common, ...postForm(realm, request, request.credentials.token) }
      : { ...common, ...getQuery(realm, request) },
    false,
  );
  if (response.status !== 200) {
    throw await refuseStatus(response, listSecrets(request.credentials));
  }
  return readToken(await response.readSmallBody(), realm);
}

function parseRealm({ realm, registry }: TokenRequest): URL {
  const url = URL.parse(realm ?? "");
  if (
    url !== null &&
    /^https?:$/.test(url.protocol) &&
    url.username === "" &&
    url.password === ""
  ) {
    url.hash = "";
    return url;
  }
  throw new RegistryError(
    "protocol",
    `"${registry.host}" wants a token and does not say where from: its realm is no http address`,
  );
}

/** Who may see the credentials. */
function checkRealm(realm: URL, { registry, isInsecure }: TokenRequest): void {
  if (realm.protocol === "https:") return;
  const isNear = realm.hostname === registry.hostname || isLoopback(realm.hostname);
  if (isInsecure && registry.protocol === "http:" && isNear) return;
  throw new RegistryError(
    "protocol",
    `"${registry.host}" wants the credentials sent to "${realm.host}" over plain http, which is not done; ` +
      "its token server needs an https address",
  );
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

type Question = Pick<HttpRequest, "method" | "url" | "headers" | "body">;

function getQuery(realm: URL, request: TokenRequest): Question {
  const { service, credentials, userAgent } = request;
  const url = new URL(realm);
  if (service !== undefined) url.searchParams.append("service", service);
  for (const scope of listScopes(request)) url.searchParams.append("scope", scope);
  const headers: Record<string, string> = { "user-agent": userAgent, accept: "application/json" };
  if (credentials?.kind === "basic") {
    url.searchParams.append("account", credentials.username);
    headers["authorization"] = basicAuthorization(credentials);
  }
  return { method: "GET", url, headers };
}

function postForm(realm: URL, request: TokenRequest, identityToken: string): Question {
  const form = new URLSearchParams({
    grant_type: "refresh_token",
    service: request.service ?? "",
    client_id: "bootc",
    scope: listScopes(request).join(" "),
    refresh_token: identityToken,
  });
  const headers = {
    "user-agent": request.userAgent,
    accept: "application/json",
    "content-type": "application/x-www-form-urlencoded",
  };
  return { method: "POST", url: realm, headers, body: form.toString() };
}

/** Ours, and the registry's own when it calls the repository something else and asks no more. */
function listScopes({ repository, scope }: TokenRequest): readonly string[] {
  const own = `repository:${repository}:pull`;
  const isOther = scope !== undefined && scope !== own;
  return isOther && /^repository:[^: ]{1,256}:pull$/.test(scope) ? [own, scope] : [own];
}

function readToken(body: Uint8Array, realm: URL): Token {
  const answer = answerSchema.safeParse(parseJsonText(body));
  const text = answer.data?.token ?? answer.data?.access_token;
  if (text === undefined) {
    throw new RegistryError("protocol", `"${realm.host}" answers without a token`);
  }
  const seconds = answer.data?.expires_in || DEFAULT_LIFE_SECONDS;
  return { text, expiresAtMs: Date.now() + Math.min(seconds, MAX_LIFE_SECONDS) * 1000 };
}

function parseJsonText(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** What of the credentials must not be repeated to anybody. */
export function listSecrets(credentials: Credentials | null): readonly string[] {
  if (credentials === null) return [];
  if (credentials.kind === "identity-token") return [credentials.token];
  const header = basicAuthorization(credentials);
  return [credentials.password, header.slice(header.indexOf(" ") + 1)].filter(Boolean);
}
