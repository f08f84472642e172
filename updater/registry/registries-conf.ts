// What registries.conf says about an image: which servers to ask for it, in which order, and which image a short
// name means (containers-registries.conf(5)). Reading the files is registries-conf-files.ts.
//
// One `[[registry]]` table applies to an image: the one whose prefix matches with the most characters.

import { describeError, FormatError, PolicyError, UsageError } from "../../shared/error.ts";
import {
  completeReference,
  formatRegistryReference,
  parseLocatedReference,
  parseRegistryReference,
  parseShortName,
  type RegistryReference,
} from "./reference.ts";

/** Where images may lie: the place a `[[registry]]` table or one of its mirrors names. */
export interface RegistryLocation {
  /** "host[:port][/path][:tag|@digest]"; empty: the image as it is named (only beside a "*." prefix). */
  readonly location: string;
  readonly insecure: boolean;
  /** The proxy for this location alone, a URL; null: what the environment says. */
  readonly proxy: string | null;
}

export interface RegistryMirror extends RegistryLocation {
  readonly pullFrom: "all" | "digest-only" | "tag-only";
}

/** One `[[registry]]` table. */
export interface RegistryTable extends RegistryLocation {
  /** "host[:port][/path][:tag|@digest]" or "*.example.com" */
  readonly prefix: string;
  readonly isBlocked: boolean;
  readonly mirrors: readonly RegistryMirror[];
  /** The file the table is in, for messages. */
  readonly source: string;
}

export type ShortNameMode = "enforcing" | "permissive" | "disabled";

export interface RegistriesConf {
  /** At most one for a prefix. */
  readonly registries: readonly RegistryTable[];
  /** Hosts, tried in this order for short names; null: no file says anything. */
  readonly searchRegistries: { readonly hosts: readonly string[]; readonly source: string } | null;
  readonly shortNameMode: ShortNameMode;
  /** Short name -> "host/path". */
  readonly aliases: ReadonlyMap<string, { readonly name: string; readonly source: string }>;
  /** Names of credential helpers, asked in this order; "containers-auth.json" stands for the auth files. */
  readonly credentialHelpers: readonly string[];
}

/** What holds when there is no file. */
export const EMPTY_REGISTRIES_CONF: RegistriesConf = {
  registries: [],
  searchRegistries: null,
  shortNameMode: "permissive",
  aliases: new Map(),
  credentialHelpers: ["containers-auth.json"],
};

/** Where an image can be fetched. The tag or digest is that of the reference. */
export interface Endpoint {
  /** "quay.io", "localhost:5000". Docker Hub is still called "docker.io", as in auth.json and certs.d. */
  readonly host: string;
  readonly repository: string;
  /** Plain HTTP, or TLS that is not verified, is allowed. */
  readonly insecure: boolean;
  readonly isMirror: boolean;
  /** The URL of the proxy for this endpoint; null: what the environment says. May hold a password. */
  readonly proxy: string | null;
}

/**
 * Mirrors first, the origin last, without places that are blocked: mirrors of a blocked registry stay usable, which is
 * how people forbid going past them. PolicyError("rejected") that names the file when nothing is left.
 */
export function resolveEndpoints(
  conf: RegistriesConf,
  reference: RegistryReference,
): readonly Endpoint[] {
  const { host, repository } = reference;
  const origin = { host, repository, insecure: false, isMirror: false, proxy: null };
  const table = findTable(conf, reference);
  if (table === null) return [origin];
  const isDigested = reference.digest !== null;
  const mirrors = table.mirrors.filter(
    ({ pullFrom }) => pullFrom === "all" || (pullFrom === "digest-only") === isDigested,
  );
  const endpoints = [
    ...mirrors.map((mirror) => relocate(reference, table, mirror, true)),
    relocate(reference, table, table, false),
  ];
  const blockers = endpoints.map((endpoint) => findBlocker(conf, reference, table, endpoint));
  const blocker = blockers.at(-1);
  const allowed = endpoints.filter((_endpoint, index) => blockers[index] === null);
  if (allowed.length > 0 || !blocker) return allowed;
  throw new PolicyError(
    "rejected",
    `"${formatRegistryReference(reference)}" is blocked by prefix "${blocker.prefix}" in "${blocker.source}"; use another image, or remove "blocked = true" there`,
    { path: blocker.source, prefix: blocker.prefix },
  );
}

/**
 * The table that forbids asking `endpoint`; null: none does. Places count by where they are, as in containers/image;
 * the origin also by the name it is asked for.
 */
function findBlocker(
  conf: RegistriesConf,
  reference: RegistryReference,
  table: RegistryTable,
  { host, repository, isMirror }: Endpoint,
): RegistryTable | null {
  if (table.isBlocked && !isMirror) return table;
  const place = findTable(conf, { ...reference, host, repository });
  return place?.isBlocked ? place : null;
}

/** The table with the longest prefix that matches; null: none does. */
function findTable(conf: RegistriesConf, reference: RegistryReference): RegistryTable | null {
  let best: RegistryTable | null = null;
  for (const table of conf.registries) {
    if (matchPrefix(reference, table.prefix) === null) continue;
    if (best === null || table.prefix.length > best.prefix.length) best = table;
  }
  return best;
}

/**
 * What follows the part of the name that `prefix` covers: "/debian:12"; null when it does not match. As in
 * containers/image a prefix without a port also covers every port of its host.
 */
function matchPrefix(reference: RegistryReference, prefix: string): string | null {
  const { tag, digest } = reference;
  if (prefix.startsWith("*.")) {
    const [, name, rest] = /^(\[.*?\]|[^:/]*)(.*)$/s.exec(formatRegistryReference(reference))!;
    return name!.endsWith(prefix.slice(1)) && name!.length >= prefix.length ? rest! : null;
  }
  // A prefix with a digest has to meet "name:tag@digest", too.
  const spellings = [
    reference,
    ...(tag !== null && digest !== null ? [{ ...reference, tag: null }] : []),
  ];
  for (const spelling of spellings) {
    const text = formatRegistryReference(spelling);
    if (!text.startsWith(prefix)) continue;
    const rest = text.slice(prefix.length);
    if (rest === "" || /^[:/@]/.test(rest)) return rest;
  }
  return null;
}

function relocate(
  reference: RegistryReference,
  table: RegistryTable,
  { location, insecure, proxy }: RegistryLocation,
  isMirror: boolean,
): Endpoint {
  const { host, repository } = reference;
  if (location === "") return { host, repository, insecure, isMirror, proxy };
  const moved = parseMoved(`${location}${matchPrefix(reference, table.prefix)}`, location, table);
  const isSame =
    reference.digest === null ? moved.tag === reference.tag : moved.digest === reference.digest;
  if (!isSame) {
    throw misplaced(
      location,
      table,
      `leads to another tag or digest than that of "${formatRegistryReference(reference)}"; end it as the prefix ends`,
    );
  }
  return { host: moved.host, repository: moved.repository, insecure, isMirror, proxy };
}

function parseMoved(text: string, location: string, table: RegistryTable): RegistryReference {
  try {
    return parseLocatedReference(text);
  } catch (error) {
    throw misplaced(location, table, `makes no image name: ${describeError(error)}`);
  }
}

function misplaced(location: string, table: RegistryTable, reason: string): FormatError {
  return new FormatError(
    "bad-value",
    `The location "${location}" of prefix "${table.prefix}" in "${table.source}" ${reason}`,
    { path: table.source, prefix: table.prefix },
  );
}

/**
 * The images that `text` may mean, to be tried in this order. Names with a registry mean themselves; short names are
 * looked up in the aliases, then in the search registries, and when no file says anything are Docker Hub's.
 * UsageError when `text` is no reference, or when the search is forbidden or ambiguous.
 */
export function expandShortName(conf: RegistriesConf, text: string): readonly RegistryReference[] {
  const short = parseShortName(text);
  if (short === null) return [parseRegistryReference(text)];
  const alias = conf.aliases.get(short.path);
  if (alias !== undefined) {
    const full = parseRegistryReference(alias.name);
    return [completeReference({ ...short, host: full.host, path: full.repository }, text)];
  }
  if (conf.searchRegistries === null) return [parseRegistryReference(text)];
  const { hosts, source } = conf.searchRegistries;
  if (hosts.length === 0) {
    throw new UsageError(
      "bad-value",
      `"${text}" does not say which registry it is in, and "unqualified-search-registries" in "${source}" is empty; write "REGISTRY/${text}"`,
      { path: source },
    );
  }
  const found = hosts.map((host) => completeReference({ ...short, host }, text));
  if (conf.shortNameMode === "enforcing" && found.length > 1) {
    const names = found.map((reference) => `"${formatRegistryReference(reference)}"`).join(", ");
    throw new UsageError(
      "bad-value",
      `"${text}" may mean ${names} ("unqualified-search-registries" in "${source}", and "short-name-mode" is "enforcing"); write one of them`,
      { path: source },
    );
  }
  return found;
}
