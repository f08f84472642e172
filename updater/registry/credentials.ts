// Who we are to a registry: the credentials for a repository, from auth files and credential helpers.
//
// In one file a helper named for the host comes before entries, the entry with the most specific key
// ("quay.io/fedora/bootc" before "quay.io") before the others, the store that is named for all registries last
// (containers-auth.json(5)). The first file that has an answer gives it.

import { FormatError } from "../../shared/error.ts";
import type { AuthEntry, AuthFile } from "./auth-file.ts";
import type { ConfigPlace } from "./config-place.ts";
import { type AuthFileSource, listAuthFiles } from "./credential-files.ts";
import { askCredentialHelper, hasCredentialHelper } from "./credential-helper.ts";
import type { RegistriesConf } from "./registries-conf.ts";

export type Credentials =
  | { readonly kind: "basic"; readonly username: string; readonly password: string }
  /** An OAuth 2 refresh token, to be exchanged at the token server. */
  | { readonly kind: "identity-token"; readonly token: string };

/** Where credentials are looked for. */
export interface CredentialSources {
  readonly place: ConfigPlace;
  readonly files: readonly AuthFileSource[];
  /** Asked in this order; "containers-auth.json" stands for `files`. */
  readonly helpers: readonly string[];
}

const AUTH_FILES = "containers-auth.json";
const DOCKER_HUB = "docker.io";
const DOCKER_HUB_NAMES: ReadonlySet<string> = new Set([
  DOCKER_HUB,
  "index.docker.io",
  "registry-1.docker.io",
]);
/** What "docker login" calls Docker Hub. */
const DOCKER_HUB_KEY = "https://index.docker.io/v1/";

/** Reads no file yet. StateError when $REGISTRY_AUTH_FILE is not there. */
export function readCredentialSources(place: ConfigPlace, conf: RegistriesConf): CredentialSources {
  return { place, files: listAuthFiles(place), helpers: conf.credentialHelpers };
}

/**
 * For `repository` at `host` (as in an `Endpoint`; of a mirror the mirror's own); null: nobody knows any. StateError
 * or UnsupportedError when a credential helper fails or is missing and nobody else knows, FormatError for a malformed
 * entry.
 */
export async function findCredentials(
  sources: CredentialSources,
  host: string,
  repository: string,
  signal?: AbortSignal,
): Promise<Credentials | null> {
  const failures: unknown[] = [];
  for (const helper of sources.helpers) {
    try {
      const found =
        helper === AUTH_FILES
          ? await findInFiles(sources, host, repository, signal)
          : await askCredentialHelper(sources.place, helper, host, { signal });
      if (found !== null) return found;
    } catch (error) {
      signal?.throwIfAborted();
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return null;
}

async function findInFiles(
  { place, files }: CredentialSources,
  host: string,
  repository: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | null> {
  for (const source of files) {
    const file = source.read();
    if (file === null) continue;
    const helper = findHelper(file, host);
    const found =
      helper === null
        ? (findEntry(file, host, repository) ?? (await askStore(place, file, host, signal)))
        : await askCredentialHelper(place, helper.name, helper.key, { signal });
    if (found !== null) return found;
  }
  return null;
}

/** The helper for exactly this host, and what to call the host when asking it. */
function findHelper(
  { helpers }: AuthFile,
  host: string,
): { readonly name: string; readonly key: string } | null {
  const exact = helpers.get(host);
  if (exact !== undefined) return { name: exact, key: host };
  const found = [...helpers].find(([key]) => hostOfKey(key, false) === host);
  return found === undefined ? null : { name: found[1], key: found[0] };
}

function findEntry(file: AuthFile, host: string, repository: string): Credentials | null {
  for (const key of file.isLegacy ? [host] : listKeys(host, repository)) {
    const entry = file.entries.get(key);
    if (entry !== undefined) return readEntry(entry, key, file.path);
  }
  for (const [key, entry] of file.entries) {
    if (hostOfKey(key, file.isLegacy) === host) return readEntry(entry, key, file.path);
  }
  return null;
}

/** "quay.io/a/b", "quay.io/a", "quay.io" */
function listKeys(host: string, repository: string): readonly string[] {
  const parts = repository.split("/");
  return [...parts.keys(), parts.length]
    .reverse()
    .map((n) => [host, ...parts.slice(0, n)].join("/"));
}

/** The host that a key means, which may be a URL. A key with a path and no scheme means no whole host. */
function hostOfKey(key: string, isLegacy: boolean): string {
  const stripped = key.replace(/^https?:\/\//, "");
  const host = (isLegacy || stripped !== key ? stripped.split("/", 1)[0]! : stripped).toLowerCase();
  return DOCKER_HUB_NAMES.has(host) ? DOCKER_HUB : host;
}

/**
 * Asks the helper that keeps everything. Unlike one that is named for a host it may be missing: the file then came from
 * another machine, and most registries need no login. An entry for the host says that this one does.
 */
async function askStore(
  place: ConfigPlace,
  file: AuthFile,
  host: string,
  signal: AbortSignal | undefined,
): Promise<Credentials | null> {
  if (file.store === null) return null;
  const key = [...file.entries.keys()].find((name) => hostOfKey(name, file.isLegacy) === host);
  if (key === undefined && !hasCredentialHelper(place, file.store)) return null;
  const server = key ?? (host === DOCKER_HUB ? DOCKER_HUB_KEY : host);
  return askCredentialHelper(place, file.store, server, { signal });
}

/** null: the entry only says that a helper knows. */
function readEntry(entry: AuthEntry, key: string, path: string): Credentials | null {
  if (entry.identityToken !== "") return { kind: "identity-token", token: entry.identityToken };
  if (entry.auth === "") return null;
  const text = decodeBase64(entry.auth);
  const colon = text?.indexOf(":") ?? -1;
  if (text === null || colon < 0) {
    throw new FormatError(
      "bad-value",
      `"auth" of "${key}" in "${path}" is not base64 of "user:password"; log in again with "podman login"`,
      { format: "auth.json", path },
    );
  }
  // Some programs padded what they encoded with NUL bytes.
  const password = text.slice(colon + 1).replace(/^\0+|\0+$/g, "");
  return { kind: "basic", username: text.slice(0, colon), password };
}

function decodeBase64(text: string): string | null {
  const compact = text.replace(/[\r\n]/g, "");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(compact) || compact.length % 4 !== 0) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(compact, "base64"));
  } catch {
    return null;
  }
}
