// Where a registry answers: URLs of the distribution API (distribution spec 1.1, "Endpoints").

/** Docker Hub's registry is not at the name that everybody uses for it. */
const SERVERS: Readonly<Record<string, string>> = {
  "docker.io": "registry-1.docker.io",
  "index.docker.io": "registry-1.docker.io",
};

/** `protocol` as in URL: "https:". `host` as in references: "docker.io", "localhost:5000". */
export function registryOrigin(protocol: string, host: string): string {
  return new URL(`${protocol}//${SERVERS[host] ?? host}`).origin;
}

/** `path` below the repository: "manifests/latest"; checked by the caller, like `repository`. */
export function registryUrl(
  protocol: string,
  { host, repository }: { readonly host: string; readonly repository: string },
  path: string,
): URL {
  return new URL(`/v2/${repository}/${path}`, registryOrigin(protocol, host));
}
