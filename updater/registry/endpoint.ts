// One server of a registry: requests below /v2/<repository>/, with scheme, login and redirects settled.
//
// Secure servers are asked over verified https only. An insecure one is asked over https without
// verification, and when it does not speak TLS over plain http, as containers/image does; the first
// answer decides for the rest of the session.

import { RegistryError } from "../../shared/error.ts";
import { registryOrigin, registryUrl } from "./address.ts";
import { type Authorization, openAuthorization } from "./authorization.ts";
import type { Credentials } from "./credentials.ts";
import type { HttpRequest, HttpResponse, HttpTransport } from "./http.ts";
import { parseProxy } from "./proxy.ts";
import { sendFollowing } from "./redirect.ts";
import type { Endpoint } from "./registries-conf.ts";
import { refuseStatus } from "./response-error.ts";

export interface EndpointSettings {
  readonly transport: HttpTransport;
  readonly endpoint: Endpoint;
  readonly userAgent: string;
  findCredentials(): Promise<Credentials | null>;
  adviseOnCredentials(): string;
  adviseOnCertificates(missing: "authority" | "client"): string;
}

export interface EndpointRequest {
  /** "manifests/latest", below the repository. */
  readonly path: string;
  /** "?n=2", or nothing. */
  readonly query?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
}

export interface EndpointSession {
  readonly endpoint: Endpoint;
  /** A response with status 200 or 206; RegistryError for everything else. */
  open(request: EndpointRequest): Promise<HttpResponse>;
}

type Scheme = { readonly protocol: "https:" | "http:"; readonly isVerified: boolean };

const VERIFIED: Scheme = { protocol: "https:", isVerified: true };
const UNVERIFIED: Scheme = { protocol: "https:", isVerified: false };
const PLAIN: Scheme = { protocol: "http:", isVerified: false };

export function openEndpointSession(settings: EndpointSettings): EndpointSession {
  const { endpoint, transport } = settings;
  const authorization = openAuthorization(settings);
  const proxy = endpoint.proxy === null ? null : parseProxy(endpoint.proxy, "proxy");
  let scheme: Scheme | null = endpoint.insecure ? null : VERIFIED;

  const send = async (request: EndpointRequest, over: Scheme, shown: string | null) => {
    const url = registryUrl(over.protocol, endpoint, request.path);
    url.search = request.query ?? "";
    const headers: Record<string, string> = {
      ...request.headers,
      "user-agent": settings.userAgent,
      "accept-encoding": "identity",
    };
    if (shown !== null) headers["authorization"] = shown;
    const { isVerified } = over;
    const { signal } = request;
    const full: HttpRequest = {
      ...{ method: "GET", url, headers, isVerified, onBehalfOf: endpoint.host, proxy, signal },
    };
    return await sendFollowing(transport, full, endpoint.insecure);
  };
  const sendFirst = async (request: EndpointRequest, shown: string | null) => {
    if (scheme !== null) return await send(request, scheme, shown);
    const [response, used] = await findScheme((over) => send(request, over, shown), request.signal);
    scheme = used;
    return response;
  };

  return {
    endpoint,
    async open(request) {
      const response = await sendAuthorized(authorization, endpoint, request, sendFirst).catch(
        (cause: unknown) => {
          throw advise(cause, settings);
        },
      );
      if (response.status === 200 || response.status === 206) return response;
      throw await refuse(response, settings, authorization.secrets());
    },
  };
}

/** Answers one challenge of the registry itself, never one of a place it redirects to. */
async function sendAuthorized(
  authorization: Authorization,
  endpoint: Endpoint,
  request: EndpointRequest,
  send: (request: EndpointRequest, shown: string | null) => Promise<HttpResponse>,
): Promise<HttpResponse> {
  const shown = await authorization.header(request.signal);
  const response = await send(request, shown);
  if (response.status !== 401 || !isAtHome(response, endpoint)) return response;
  await authorization.answer(response, shown, request.signal);
  return await send(request, await authorization.header(request.signal));
}

function isAtHome(response: HttpResponse, endpoint: Endpoint): boolean {
  const { url } = response;
  return registryOrigin(url.protocol, endpoint.host) === url.origin;
}

async function findScheme(
  send: (over: Scheme) => Promise<HttpResponse>,
  signal: AbortSignal | undefined,
): Promise<readonly [HttpResponse, Scheme]> {
  try {
    return [await send(UNVERIFIED), UNVERIFIED];
  } catch (cause) {
    if (signal?.aborted || !(cause instanceof RegistryError)) throw cause;
    const { failure } = cause.context;
    if (failure === undefined || failure === "malformed") throw cause;
  }
  return [await send(PLAIN), PLAIN];
}

/** Says what the administrator can do about it. */
function advise(cause: unknown, settings: EndpointSettings): unknown {
  if (!(cause instanceof RegistryError)) return cause;
  const advice = findAdvice(cause, settings);
  if (advice === null) return cause;
  const { code, message, context } = cause;
  return new RegistryError(code, `${message}; ${advice}`, context, { cause: cause.cause });
}

function findAdvice({ context }: RegistryError, settings: EndpointSettings): string | null {
  switch (context["failure"]) {
    case "certificate":
      return context["certificate"] === "CERT_HAS_EXPIRED"
        ? "renew it, or set the clock of this machine"
        : settings.adviseOnCertificates("authority");
    case "tls":
      return `if it is meant to speak plain http, say so in registries.conf ("insecure = true")`;
    case "closed":
      return settings.endpoint.insecure ? null : settings.adviseOnCertificates("client");
    default:
      return null;
  }
}

/** A refusal of the registry itself may be a matter of credentials. */
async function refuse(
  response: HttpResponse,
  settings: EndpointSettings,
  secrets: readonly string[],
): Promise<RegistryError> {
  const error = await refuseStatus(response, secrets);
  if (error.code !== "unauthorized" || !isAtHome(response, settings.endpoint)) return error;
  const isShown = error.context["status"] === 401 && secrets.length > 0;
  const shown = isShown
    ? `; it does not accept the credentials for "${settings.endpoint.repository}"`
    : "";
  const message = `${error.message}${shown}; ${settings.adviseOnCredentials()}`;
  return new RegistryError(error.code, message, error.context);
}
