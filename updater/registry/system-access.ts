// What this machine's configuration says about registries, as the client needs it: endpoints,
// credentials, certificates and proxies. Read when a client is opened, so a change counts at once.

import packageJson from "../../package.json" with { type: "json" };
import { type RegistryCertificates, readCertificates } from "./certificates.ts";
import { type ConfigPlace, hostConfigPlace } from "./config-place.ts";
import { type Credentials, findCredentials, readCredentialSources } from "./credentials.ts";
import { REGISTRY_LIMITS, type RegistryLimits } from "./limits.ts";
import { findProxy, type Proxy as ProxyServer, readProxySettings } from "./proxy.ts";
import type { RegistryReference } from "./reference.ts";
import {
  type Endpoint,
  expandShortName,
  type RegistriesConf,
  resolveEndpoints,
} from "./registries-conf.ts";
import { readRegistriesConf } from "./registries-conf-files.ts";

export interface RegistryAccess {
  readonly limits: RegistryLimits;
  readonly userAgent: string;
  /** The images that a name may mean, in order of preference. UsageError when it is none. */
  listMeanings(image: string): readonly RegistryReference[];
  /** Mirrors first, the origin last. PolicyError when blocked. */
  listEndpoints(reference: RegistryReference): readonly Endpoint[];
  findCredentials(endpoint: Endpoint): Promise<Credentials | null>;
  findCertificates(host: string): RegistryCertificates;
  findProxy(url: URL): ProxyServer | null;
  /** What to do when the registry wants other credentials. */
  adviseOnCredentials(endpoint: Endpoint): string;
  /** What to do when its certificate is not trusted, or it may want one of ours. */
  adviseOnCertificates(endpoint: Endpoint, missing: "authority" | "client"): string;
}

const USER_AGENT = `bootc/${packageJson.version}`;

export function openSystemAccess(
  place: ConfigPlace = hostConfigPlace(),
  conf: RegistriesConf = readRegistriesConf(place),
): RegistryAccess {
  const sources = readCredentialSources(place, conf);
  const proxies = readProxySettings(place);
  return {
    limits: REGISTRY_LIMITS,
    userAgent: USER_AGENT,
    listMeanings: (image) => expandShortName(conf, image),
    listEndpoints: (reference) => resolveEndpoints(conf, reference),
    findCredentials: ({ host, repository }) => findCredentials(sources, host, repository),
    findCertificates: (host) => readCertificates(place, host),
    findProxy: (url) => findProxy(proxies, url),
    adviseOnCredentials: ({ host }) => {
      const paths = sources.files.map(({ path }) => `"${path}"`);
      const looked =
        paths.length === 0 ? "no auth file was found" : `looked in ${paths.join(", ")}`;
      return `${looked}; log in with "podman login --authfile=/etc/ostree/auth.json ${host}"`;
    },
    adviseOnCertificates: ({ host }, missing) => {
      const { directory, advisedDirectory } = readCertificates(place, host);
      const path = directory ?? advisedDirectory;
      return missing === "authority"
        ? `put the certificate of its authority into "${path}/ca.crt"`
        : `if it wants a client certificate, put that into "${path}/client.cert" and its key into "${path}/client.key"`;
    },
  };
}
