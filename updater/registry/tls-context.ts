// Whom we trust and what we show when connecting over TLS.

import {
  createSecureContext,
  getCACertificates,
  rootCertificates,
  type SecureContext,
} from "node:tls";
import { registryOrigin } from "./address.ts";
import type { RegistryCertificates } from "./certificates.ts";
import { httpFailure } from "./http-failure.ts";

let systemAuthorities: readonly string[] | undefined;
let plainContext: SecureContext | undefined;

/** The system's authorities (SSL_CERT_FILE and SSL_CERT_DIR count), else those that came with Bun. */
function listAuthorities(): readonly string[] {
  if (systemAuthorities === undefined) {
    const found = getCACertificates("system");
    systemAuthorities = found.length > 0 ? found : rootCertificates;
  }
  return systemAuthorities;
}

/** The system's authorities only. */
export function systemContext(): SecureContext {
  plainContext ??= createSecureContext({ ca: [...listAuthorities()] });
  return plainContext;
}

/** For `url` on behalf of the registry `onBehalfOf`; the client certificate is shown to the registry only. */
export function makeContext(
  url: URL,
  onBehalfOf: string,
  findCertificates: (host: string) => RegistryCertificates,
): SecureContext {
  const registry = findCertificates(onBehalfOf);
  const isRegistry = registryOrigin(url.protocol, onBehalfOf) === url.origin;
  const others = isRegistry ? [] : findCertificates(url.host).authorities;
  const [client] = isRegistry ? registry.clients : [];
  const authorities = [...registry.authorities, ...others];
  if (authorities.length === 0 && client === undefined) return systemContext();
  try {
    return createSecureContext({
      ca: [...listAuthorities(), ...authorities],
      ...(client && { cert: client.certificate, key: client.key }),
    });
  } catch (cause) {
    const where = registry.directory ?? registry.advisedDirectory;
    throw httpFailure("certificate", `Cannot use the certificates in "${where}"`, cause);
  }
}
