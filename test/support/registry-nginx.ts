// nginx on a loopback port, in front of a registry: a mirror that passes requests on, or a content network that
// serves the registry's blobs as files, with ranges.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { watch } from "node:fs/promises";
import { join } from "node:path";
import type { ServerCertificate } from "./registry-certificates.ts";
import { findFreePort, type ServerProcess, startServer } from "./server-process.ts";

export interface NginxOptions {
  readonly directory: string;
  readonly name: string;
  readonly tls?: ServerCertificate;
  /** Inside `server { }`. */
  readonly locations: string;
  /** Before `server { }`. */
  readonly zone?: string;
}

/** Everything goes to `origin` ("http://127.0.0.1:PORT"). */
export const passTo = (origin: string) =>
  `location / { proxy_pass ${origin}; proxy_set_header Host $http_host; proxy_buffering off; }`;

/** Files below `storage`, as docker-registry keeps blobs; `rules` come first. */
export const serveBlobs = (storage: string, rules = "") => `
  ${rules}
  location ~ ^/cdn/(sha256):(..)(.*)$ {
    alias ${storage}/docker/registry/v2/blobs/$1/$2/$2$3/data;
    default_type application/octet-stream;
  }`;

export async function startNginx({
  directory,
  name,
  tls,
  locations,
  zone = "",
}: NginxOptions): Promise<ServerProcess> {
  const port = await findFreePort();
  const own = join(directory, name);
  mkdirSync(own, { recursive: true });
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${own}/${kind};`,
  );
  const certificate = tls
    ? `ssl_certificate ${tls.certificatePath}; ssl_certificate_key ${tls.keyPath};`
    : "";
  const config = `
daemon off; master_process off; user root; pid ${own}/pid; error_log stderr notice;
events { worker_connections 256; }
http {
  ${temporary.join(" ")}
  log_format with_login '$request_method $uri $status "$http_range" "$http_authorization"';
  access_log ${own}/access.log with_login;
  ${zone}
  client_max_body_size 0; keepalive_requests 10000;
  server { listen 127.0.0.1:${port} ${tls ? "ssl" : ""}; ${certificate} ${locations} }
}
`;
  const path = join(own, "nginx.conf");
  writeFileSync(path, config);
  return await startServer(["nginx", "-c", path, "-p", own], (line) =>
    /start worker|getrlimit|OS: Linux/.test(line) ? port : null,
  );
}

/** The access log of nginx `name` once it has what `pattern` says: a line is written after its answer. */
export async function waitForAccess(
  directory: string,
  name: string,
  pattern: RegExp,
): Promise<string> {
  const path = join(directory, name, "access.log");
  const events = watch(path, { signal: AbortSignal.timeout(10_000) })[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = events.next();
      const text = readFileSync(path, "utf8");
      if (pattern.test(text)) {
        next.catch(() => {});
        return text;
      }
      await next;
    }
  } finally {
    await events.return?.();
  }
}
