// What we show one registry to be let in: learnt from its challenges, kept until it no longer works.
//
// Nothing is shown before it is asked for. Several requests run at once: who finds that another one
// has a newer answer takes that instead of fetching its own.

import { raceAbort } from "../../shared/abortable.ts";
import { RegistryError } from "../../shared/error.ts";
import { basicAuthorization } from "./basic.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";
import type { HttpResponse, HttpTransport } from "./http.ts";
import { parseProxy } from "./proxy.ts";
import type { Endpoint } from "./registries-conf.ts";
import { fetchToken, listSecrets, type Token } from "./token.ts";

/** Tokens are renewed this long before they end. */
const MARGIN_MS = 5_000;

export interface AuthorizationSettings {
  readonly transport: HttpTransport;
  readonly endpoint: Endpoint;
  readonly userAgent: string;
  findCredentials(): Promise<Credentials | null>;
  /** Where credentials were looked for and how to make some, for messages. */
  adviseOnCredentials(): string;
}

export interface Authorization {
  /** Value of the Authorization header, or null. */
  header(signal: AbortSignal | undefined): Promise<string | null>;
  /** After a 401 to a request that showed `shown`. RegistryError when there is nothing better to show. */
  answer(
    response: HttpResponse,
    shown: string | null,
    signal: AbortSignal | undefined,
  ): Promise<void>;
  /** What was shown, and must not be repeated to anybody. */
  secrets(): readonly string[];
}

type State =
  | { readonly kind: "nothing" }
  | { readonly kind: "basic"; readonly header: string; readonly credentials: Credentials }
  | {
      readonly kind: "bearer";
      readonly challenge: Challenge;
      readonly registry: URL;
      readonly token: Token;
      readonly credentials: Credentials | null;
    };

export function openAuthorization(settings: AuthorizationSettings): Authorization {
  const { endpoint } = settings;
  let state: State = { kind: "nothing" };
  let renewing: Promise<void> | null = null;

  const shownNow = (): string | null => {
    if (state.kind === "nothing") return null;
    return state.kind === "basic" ? state.header : `Bearer ${state.token.text}`;
  };
  /** One renewal at a time, whoever needs it first: who gives up waiting must not end it for the others. */
  const renew = async (
    signal: AbortSignal | undefined,
    begin: () => Promise<State>,
  ): Promise<void> => {
    renewing ??= begin()
      .then((renewed) => {
        state = renewed;
      })
      .finally(() => {
        renewing = null;
      });
    await raceAbort(renewing, signal);
  };
  return {
    secrets() {
      if (state.kind === "nothing") return [];
      const token = state.kind === "bearer" ? [state.token.text] : [];
      return [...token, ...listSecrets(state.credentials)];
    },
    async header(signal) {
      const { kind } = state;
      if (kind === "bearer" && state.token.expiresAtMs - MARGIN_MS < Date.now()) {
        const { challenge, registry } = state;
        await renew(signal, () => fetchBearer(settings, challenge, registry));
      }
      return shownNow();
    },
    async answer(response, shown, signal) {
      const challenges = parseChallenges(response.headerValues("www-authenticate"));
      const registry = response.url;
      await response.readSmallBody();
      if (shownNow() !== shown) return;
      const bearer = challenges.find(({ scheme }) => scheme === "bearer");
      if (bearer !== undefined) {
        return await renew(signal, () => fetchBearer(settings, bearer, registry));
      }
      if (challenges.some(({ scheme }) => scheme === "basic")) {
        return await renew(signal, () => answerBasic(settings, shown));
      }
      const offered = challenges.map(({ scheme }) => scheme.slice(0, 40)).join(", ") || "none";
      throw new RegistryError(
        "unauthorized",
        `"${endpoint.host}" wants a login of a kind that is not supported (offered: ${offered}; supported are Basic and Bearer)`,
      );
    },
  };
}

async function fetchBearer(
  settings: AuthorizationSettings,
  challenge: Challenge,
  registry: URL,
): Promise<State> {
  const { endpoint } = settings;
  const credentials = await settings.findCredentials();
  const { parameters } = challenge;
  const token = await fetchToken(settings.transport, {
    realm: parameters.get("realm"),
    service: parameters.get("service"),
    scope: parameters.get("scope"),
    repository: endpoint.repository,
    credentials,
    registry,
    isInsecure: endpoint.insecure,
    host: endpoint.host,
    proxy: endpoint.proxy === null ? null : parseProxy(endpoint.proxy, "proxy"),
    userAgent: settings.userAgent,
  }).catch((cause: unknown) => {
    throw adviseOnToken(cause, credentials, settings);
  });
  return { kind: "bearer", challenge, registry, token, credentials };
}

async function answerBasic(
  { endpoint, findCredentials, adviseOnCredentials }: AuthorizationSettings,
  shown: string | null,
): Promise<State> {
  const credentials = await findCredentials();
  if (credentials?.kind !== "basic") {
    const found = credentials === null ? "there is no password" : "there is only a token";
    throw new RegistryError(
      "unauthorized",
      `"${endpoint.host}" wants a user name and a password, and ${found} for "${endpoint.repository}"; ${adviseOnCredentials()}`,
    );
  }
  const header = basicAuthorization(credentials);
  if (header === shown) throw wrongCredentials(endpoint, adviseOnCredentials());
  return { kind: "basic", header, credentials };
}

function wrongCredentials(endpoint: Endpoint, advice: string, cause?: unknown): RegistryError {
  return new RegistryError(
    "unauthorized",
    `"${endpoint.host}" does not accept the credentials for "${endpoint.repository}"; ${advice}`,
    {},
    { cause },
  );
}

function adviseOnToken(
  cause: unknown,
  credentials: Credentials | null,
  { endpoint, adviseOnCredentials }: AuthorizationSettings,
): unknown {
  if (!(cause instanceof RegistryError) || cause.code !== "unauthorized") return cause;
  if (credentials !== null) return wrongCredentials(endpoint, adviseOnCredentials(), cause);
  return new RegistryError(
    "unauthorized",
    `"${endpoint.host}" gives no access to "${endpoint.repository}" without credentials; ${adviseOnCredentials()}`,
    {},
    { cause },
  );
}
