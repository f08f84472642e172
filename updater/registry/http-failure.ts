// Why a request got no response, or its body ended early: undici's and the runtime's errors sorted into what
// the client does about them, as RegistryError with `context.failure`.

import { type ErrorContext, RegistryError } from "../../shared/error.ts";
import type { Proxy as ProxyServer } from "./proxy.ts";

export type HttpFailure =
  /** No connection, or it broke: another try may help. */
  | "unreachable"
  /** The server closed the connection without an answer: over TLS also what a missing client certificate looks like. */
  | "closed"
  | "timeout"
  /** The certificate is not trusted. */
  | "certificate"
  /** The server does not speak TLS, or not ours. */
  | "tls"
  /** What came is not HTTP, or more of it than is accepted. */
  | "malformed"
  | "proxy";

const NOT_TLS = [
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_HTTP_REQUEST",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG",
];
const MALFORMED = [
  "UND_ERR_HEADERS_OVERFLOW",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "UND_ERR_RES_EXCEEDED_MAX_SIZE",
  "UND_ERR_INVALID_ARG",
];

/** An error of the library about a request to `url`; RegistryError stays what it is. */
export function explainFailure(cause: unknown, url: URL, proxy: ProxyServer | null): unknown {
  if (cause instanceof RegistryError) return cause;
  const { code = "", name = "", message = "" } = cause as Partial<Error & { code: string }>;
  const host = `"${url.host}"`;
  const via = proxy === null ? "" : ` through the proxy "${new URL(proxy.url).host}"`;
  if (/^Proxy response|Proxy Authentication/.test(message) || name.includes("ProxyConnection")) {
    return explainProxy(new URL(proxy?.url ?? url).host, cause as Error);
  }
  if (name === "HTTPParserError" || MALFORMED.includes(code)) {
    return httpFailure("malformed", `What ${host} sent is not acceptable HTTP`, cause);
  }
  if (NOT_TLS.includes(code)) return httpFailure("tls", `${host} does not speak TLS${via}`, cause);
  if (isCertificateCode(code)) {
    const what = `The certificate of ${host} is not trusted${via}`;
    return httpFailure("certificate", what, cause, { certificate: code });
  }
  if (/^(ERR_SSL_|EPROTO)/.test(code)) {
    return httpFailure("tls", `Cannot agree with ${host} about TLS${via}`, cause);
  }
  if (code === "UND_ERR_CONNECT_TIMEOUT") {
    const what = `No connection to ${host}${via} in time; check the network`;
    return httpFailure("timeout", what, cause);
  }
  if (code === "UND_ERR_SOCKET" && message === "other side closed") {
    return httpFailure("closed", `${host} closed the connection${via}`, cause);
  }
  return httpFailure("unreachable", describeUnreachable(code, `${host}${via}`), cause);
}

function describeUnreachable(code: string, host: string): string {
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `Nobody knows the address of ${host}; check its spelling, and this machine's name servers`;
    case "ECONNREFUSED":
      return `Nothing answers at ${host}; check host and port`;
    default:
      return `No connection to ${host}, or it broke off; check the network`;
  }
}

function explainProxy(host: string, cause: Error): RegistryError {
  const text = `The proxy "${host}" refuses to connect`;
  if (!cause.message.includes("407")) return httpFailure("proxy", text, cause);
  return new RegistryError(
    "unauthorized",
    `${text} without a user and a password that it knows; put them into the address of the proxy, in front of its host and "@"`,
    { failure: "proxy" },
    { cause },
  );
}

function isCertificateCode(code: string): boolean {
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|ERR_TLS_CERT)/.test(
    code,
  );
}

export function httpFailure(
  kind: HttpFailure,
  message: string,
  cause?: unknown,
  context: ErrorContext = {},
): RegistryError {
  const code = kind === "malformed" ? "protocol" : "unavailable";
  return new RegistryError(code, message, { ...context, failure: kind }, { cause });
}
