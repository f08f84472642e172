// Proxies from the environment, with the meaning that Go's package httpproxy gives the variables: skopeo, podman and
// with them bootc take it from there.
//
//   HTTPS_PROXY, HTTP_PROXY, NO_PROXY, or in lower case; upper case wins when both are set
//   NO_PROXY: words between commas: "*", address[:port], address/bits, domain[:port], .domain (subdomains only)
//
// Connections to this machine itself (localhost, loopback addresses) never go through a proxy.

import { BlockList, isIP } from "node:net";
import { domainToASCII } from "node:url";
import { UsageError } from "../../shared/error.ts";
import { type ConfigPlace, readVariable } from "./config-place.ts";

/** A proxy to connect through. */
export interface Proxy {
  /** "http://host:port", "https://…" or "socks5://…" (names are looked up there), without user and password. */
  readonly url: string;
  readonly credentials: { readonly username: string; readonly password: string } | null;
}

export interface ProxySettings {
  /** For http:// URLs. */
  readonly http: Proxy | null;
  /** For https:// URLs. */
  readonly https: Proxy | null;
  readonly exceptions: readonly ProxyException[];
}

/** One word of NO_PROXY. */
type ProxyException =
  | { readonly kind: "everything" }
  | {
      readonly kind: "addresses";
      readonly addresses: BlockList;
      readonly family: number;
      readonly port: string;
    }
  /** `suffix` begins with a dot; `withDomain`: the domain itself, too. */
  | {
      readonly kind: "domain";
      readonly suffix: string;
      readonly withDomain: boolean;
      readonly port: string;
    };

const SCHEMES: ReadonlySet<string> = new Set(["http:", "https:", "socks5:", "socks5h:"]);
const DEFAULT_PORTS: Readonly<Record<string, string>> = { "http:": "80", "https:": "443" };

/** UsageError naming the variable when a value is no proxy: connecting without it may be what must not happen. */
export function readProxySettings(place: ConfigPlace): ProxySettings {
  const read = (name: string) =>
    readVariable(place, name) ?? readVariable(place, name.toLowerCase());
  // A web server's CGI programs get the client's header "Proxy:" as HTTP_PROXY (CVE-2016-5385).
  const http = place.environment["REQUEST_METHOD"] ? null : read("HTTP_PROXY");
  const https = read("HTTPS_PROXY");
  return {
    http: http === null ? null : parseProxy(http, "HTTP_PROXY"),
    https: https === null ? null : parseProxy(https, "HTTPS_PROXY"),
    exceptions: parseNoProxy(read("NO_PROXY") ?? ""),
  };
}

/** The proxy for a request to `url`; null: connect directly. */
export function findProxy(settings: ProxySettings, url: URL): Proxy | null {
  const proxy = url.protocol === "https:" ? settings.https : settings.http;
  if (proxy === null) return null;
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  const port = url.port || (DEFAULT_PORTS[url.protocol] ?? "");
  if (host === "localhost" || isAmong(LOOPBACK, host)) return null;
  return settings.exceptions.some((exception) => isExcepted(exception, host, port)) ? null : proxy;
}

/**
 * A proxy's URL as written in the environment or in registries.conf; "host:port" alone is an HTTP proxy. UsageError
 * that names `what`, never the URL, which may hold a password.
 */
export function parseProxy(text: string, what: string): Proxy {
  const url = parseProxyUrl(text.includes("://") ? text : `http://${text}`);
  if (url === null) {
    throw new UsageError(
      "bad-value",
      `${what} is not the URL of a proxy; write "http://HOST:PORT", or with https, socks5 or socks5h`,
    );
  }
  const { username, password } = url;
  return {
    url: `${url.protocol.replace("5h", "5")}//${url.host}`,
    credentials:
      username === "" && password === ""
        ? null
        : { username: decode(username, what), password: decode(password, what) },
  };
}

function parseProxyUrl(text: string): URL | null {
  const url = URL.parse(text.trim());
  return url !== null && url.host !== "" && SCHEMES.has(url.protocol) ? url : null;
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new UsageError("bad-value", `${what}: user or password has a "%" that should be "%25"`);
  }
}

/** Words that mean nothing are passed over, as in Go: the list is written for many programs. */
function parseNoProxy(text: string): readonly ProxyException[] {
  const words = text.split(",").map((word) => word.trim().toLowerCase());
  if (words.includes("*")) return [{ kind: "everything" }];
  return words.flatMap((word) => parseException(word) ?? []);
}

function parseException(word: string): ProxyException | null {
  const [, network, bits] = /^([^/]+)\/(\d+)$/.exec(word) ?? [];
  if (network !== undefined) return addressException(network, Number(bits), "");
  const { host, port } = splitPort(word);
  if (host === "") return null;
  if (isIP(host) !== 0) return addressException(host, null, port);
  const domain = host.startsWith("*.") ? host.slice(1) : host;
  const name = domain.startsWith(".") ? domain.slice(1) : domain;
  const suffix = `.${domainToASCII(name) || name}`;
  return { kind: "domain", suffix, withDomain: !domain.startsWith("."), port };
}

/** "host:port", "[IPv6]:port", or without port; a bare IPv6 address has no port. */
function splitPort(word: string): { readonly host: string; readonly port: string } {
  if (isIP(word) !== 0) return { host: word, port: "" };
  const [, inBrackets, bare, port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(word) ?? [];
  return { host: inBrackets ?? bare ?? "", port: port ?? "" };
}

/** null when it is no address, or the number of bits is wrong. */
function addressException(
  address: string,
  bits: number | null,
  port: string,
): ProxyException | null {
  const family = isIP(address);
  const maxBits = family === 4 ? 32 : 128;
  if (family === 0 || (bits ?? 0) > maxBits) return null;
  const addresses = new BlockList();
  addresses.addSubnet(address, bits ?? maxBits, family === 4 ? "ipv4" : "ipv6");
  return { kind: "addresses", addresses, family, port };
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

function isExcepted(exception: ProxyException, host: string, port: string): boolean {
  if (exception.kind === "everything") return true;
  if (exception.port !== "" && exception.port !== port) return false;
  if (exception.kind === "addresses") {
    // "::/0" has all IPv4 addresses for a BlockList, none for Go.
    if (exception.family === 6 && isIP(host) === 4) return false;
    return isAmong(exception.addresses, host);
  }
  // Addresses are no domains: "[::1%25.example.com]" must not pass for one (CVE-2025-22870).
  if (isIP(host) !== 0 || host.includes(":")) return false;
  const { suffix, withDomain } = exception;
  return host.endsWith(suffix) || (withDomain && host === suffix.slice(1));
}

function isAmong(addresses: BlockList, host: string): boolean {
  const family = isIP(host);
  return family !== 0 && addresses.check(host, family === 4 ? "ipv4" : "ipv6");
}
