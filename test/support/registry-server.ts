// Debian's docker-registry on a loopback port: plain or TLS, open, with htpasswd or with tokens.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runImageTool } from "./image-tools.ts";
import type { ServerCertificate } from "./registry-certificates.ts";
import { type ServerProcess, startServer } from "./server-process.ts";

export interface RegistryOptions {
  /** Storage and configuration; /tmp or .cache. Storage is shared by registries of one directory. */
  readonly directory: string;
  readonly name: string;
  readonly tls?: ServerCertificate;
  /** PEM file of authorities: clients must show a certificate of one of them. */
  readonly clientAuthority?: string;
  readonly htpasswd?: { readonly username: string; readonly password: string };
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    readonly certificateBundle: string;
  };
}

export async function startRegistry(options: RegistryOptions): Promise<ServerProcess> {
  const { directory, name, tls, clientAuthority, htpasswd, token } = options;
  mkdirSync(join(directory, "storage"), { recursive: true });
  const http = {
    addr: "127.0.0.1:0",
    secret: "of the test",
    ...(tls && {
      tls: {
        certificate: tls.certificatePath,
        key: tls.keyPath,
        ...(clientAuthority && { clientcas: [clientAuthority] }),
      },
    }),
  };
  const config = {
    version: "0.1",
    log: { level: "info", accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: join(directory, "storage") } },
    http,
    ...(htpasswd && { auth: { htpasswd: await writePasswords(directory, name, htpasswd) } }),
    ...(token && {
      auth: {
        token: {
          realm: token.realm,
          service: token.service,
          issuer: token.issuer,
          rootcertbundle: token.certificateBundle,
        },
      },
    }),
  };
  // JSON is YAML.
  const path = join(directory, `${name}.yml`);
  writeFileSync(path, JSON.stringify(config));
  return await startServer(["docker-registry", "serve", path], (line) => {
    const [, port] = /msg="listening on 127\.0\.0\.1:(\d+)/.exec(line) ?? [];
    return port === undefined ? null : Number(port);
  });
}

async function writePasswords(
  directory: string,
  name: string,
  { username, password }: { readonly username: string; readonly password: string },
): Promise<{ readonly realm: string; readonly path: string }> {
  const path = join(directory, `${name}.htpasswd`);
  writeFileSync(path, await runImageTool(["htpasswd", "-nbB", username, password]));
  return { realm: 'a "quoted" realm, with comma', path };
}
