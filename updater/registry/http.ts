// HTTP for registries: one request, one response, over undici. The only importer of undici.
//
// The package is loaded at the first request: Bun would put a shim in place of "undici", and most verbs
// never reach the network. undici's own timers are off; ours count only time in which we wait (a
// consumer may be slow), and cover headers that come drop by drop (slow loris).
// Invariants: certificates are checked unless the request says otherwise, whatever the environment
// says; nothing is decompressed; redirects are not followed; a body that ends early throws.
// Failures are RegistryError with `context.failure`, a HttpFailure.

import type { Dispatcher } from "undici/index.js";
import { basicAuthorization } from "./basic.ts";
import { type BodyContext, readSmallBody, watchBody } from "./body-watch.ts";
import type { RegistryCertificates } from "./certificates.ts";
import { explainFailure, httpFailure } from "./http-failure.ts";
import { MAX_HEADER_BYTES, type RegistryLimits } from "./limits.ts";
import type { Proxy as ProxyServer } from "./proxy.ts";
import { makeContext, systemContext } from "./tls-context.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly isVerified: boolean;
  /** host[:port] of the registry on whose behalf this is: its private CAs count for others too. */
  readonly onBehalfOf: string;
  /** Instead of the one that the environment names for the URL. */
  readonly proxy: ProxyServer | null;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
  readonly url: URL;
  readonly status: number;
  /** Value of the header, several of one name joined by ", "; null when absent. */
  header(name: string): string | null;
  /** Each value of a header that may be repeated. */
  headerValues(name: string): readonly string[];
  /** Exactly the bytes of the message; throws when it breaks off, stalls or is too slow. */
  readonly body: AsyncIterable<Uint8Array>;
  /** The beginning of a small body; empties or closes the connection. Never throws. */
  readSmallBody(): Promise<Uint8Array>;
  /** Closes the connection without reading on. */
  close(): void;
}

export interface HttpSettings {
  readonly limits: RegistryLimits;
  /** Certificates for host[:port]. */
  findCertificates(host: string): RegistryCertificates;
  /** The environment's proxy for a request. */
  findProxy(url: URL): ProxyServer | null;
}

export interface HttpTransport extends AsyncDisposable {
  send(request: HttpRequest): Promise<HttpResponse>;
}

export function openHttpTransport(settings: HttpSettings): HttpTransport {
  const dispatchers = new Map<string, Promise<Dispatcher>>();
  return {
    async send(request) {
      request.signal?.throwIfAborted();
      const { url, isVerified, onBehalfOf } = request;
      const proxy = request.proxy ?? settings.findProxy(url);
      const key = [url.origin, isVerified, onBehalfOf, proxy?.url].join(" ");
      let dispatcher = dispatchers.get(key);
      if (dispatcher === undefined) {
        dispatcher = openDispatcher(request, proxy, settings);
        dispatchers.set(key, dispatcher);
      }
      return await sendOver(await dispatcher, request, proxy, settings.limits);
    },
    async [Symbol.asyncDispose]() {
      const opened = await Promise.allSettled(dispatchers.values());
      dispatchers.clear();
      const open = opened.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      await Promise.allSettled(open.map((each) => each.destroy()));
    },
  };
}

async function openDispatcher(
  { url, isVerified, onBehalfOf }: HttpRequest,
  proxy: ProxyServer | null,
  { limits, findCertificates }: HttpSettings,
): Promise<Dispatcher> {
  const { Pool, ProxyAgent } = await import("undici/index.js");
  const shared = {
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAliveTimeout: 20_000,
  };
  // Said aloud, because NODE_TLS_REJECT_UNAUTHORIZED would decide otherwise.
  const tls = {
    rejectUnauthorized: isVerified,
    ...(url.protocol === "https:" && {
      secureContext: makeContext(url, onBehalfOf, findCertificates),
    }),
  };
  const timeout = limits.connectTimeoutMs;
  if (proxy === null) return new Pool(url.origin, { ...shared, connect: { ...tls, timeout } });
  if (proxy.url.startsWith("socks")) return openSocks(proxy, { tls, timeout });
  const { credentials } = proxy;
  const options = {
    ...shared,
    uri: proxy.url,
    ...(credentials !== null && { token: basicAuthorization(credentials) }),
    proxyTunnel: false, // plain http is asked of the proxy; https goes through a tunnel
    requestTls: tls,
    proxyTls: { secureContext: systemContext(), rejectUnauthorized: true },
    connectTimeout: timeout,
  };
  return new ProxyAgent(options as ConstructorParameters<typeof ProxyAgent>[0]);
}

/** Names are looked up by the proxy. */
async function openSocks(
  { url, credentials }: ProxyServer,
  { tls, timeout }: { readonly tls: object; readonly timeout: number },
): Promise<Dispatcher> {
  const { Socks5ProxyAgent } = await import("undici/index.js");
  // It tells everybody on standard error that it is new.
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return new Socks5ProxyAgent(url.replace(/^socks5h:/, "socks5:"), {
      ...credentials,
      requestTls: tls,
      connectTimeout: timeout,
      headersTimeout: 0,
      bodyTimeout: 0,
    } as ConstructorParameters<typeof Socks5ProxyAgent>[1]);
  } finally {
    process.emitWarning = emitWarning;
  }
}

async function sendOver(
  dispatcher: Dispatcher,
  { method, url, headers, body, signal }: HttpRequest,
  proxy: ProxyServer | null,
  limits: RegistryLimits,
): Promise<HttpResponse> {
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  const release = () => signal?.removeEventListener("abort", abort);
  const slow = httpFailure(
    "timeout",
    `"${url.host}" sent no response within ${limits.headersTimeoutMs / 1000} seconds`,
  );
  const timer = setTimeout(() => stop.abort(slow), limits.headersTimeoutMs);
  try {
    const response = await dispatcher.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers: { ...headers, host: url.host },
      ...(body === undefined ? {} : { body }),
      signal: stop.signal,
    });
    return makeResponse(url, response, { stop, release, limits });
  } catch (cause) {
    release();
    throw signal?.aborted ? signal.reason : explainFailure(cause, url, proxy);
  } finally {
    clearTimeout(timer);
  }
}

function makeResponse(
  url: URL,
  response: Dispatcher.ResponseData,
  context: BodyContext,
): HttpResponse {
  // Whoever destroys a body nobody listens to must not bring the process down.
  response.body.on("error", () => {});
  const headerValues = (name: string) => [response.headers[name] ?? []].flat();
  const close = () => {
    context.release();
    response.body.destroy();
  };
  return {
    url,
    status: response.statusCode,
    headerValues,
    header: (name) => headerValues(name).join(", ") || null,
    body: watchBody(url, response.body, context),
    readSmallBody: () => readSmallBody(response.body, close),
    close,
  };
}
