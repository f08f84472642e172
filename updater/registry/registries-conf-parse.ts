// One registries.conf file: TOML -> checked tables (containers-registries.conf(5), version 2 and the older version 1).
//
// Unknown keys are passed over, as containers/image does, so that files for newer programs stay readable. Keys count
// in any case, as they do there: a "Blocked = true" must not be lost.

import { parse } from "@iarna/toml";
import * as z from "zod";
import { describeError, FormatError } from "../../shared/error.ts";
import { parseProxy } from "./proxy.ts";
import {
  normalizeHost,
  parseRegistryReference,
  parseShortName,
  splitLocation,
} from "./reference.ts";
import type {
  RegistryLocation,
  RegistryMirror,
  RegistryTable,
  ShortNameMode,
} from "./registries-conf.ts";

/** What one file sets; null: it does not say. */
export interface RegistriesConfFile {
  readonly registries: readonly RegistryTable[];
  readonly searchHosts: readonly string[] | null;
  readonly shortNameMode: ShortNameMode | null;
  /** "" takes back what an earlier file said. */
  readonly aliases: ReadonlyMap<string, string>;
  readonly credentialHelpers: readonly string[] | null;
  readonly source: string;
}

const locationFields = {
  location: z.string().default(""),
  insecure: z.boolean().default(false),
  proxy: z.string().default(""),
  "pull-from-mirror": z.enum(["", "all", "digest-only", "tag-only"]).default(""),
};
const tableSchema = z.looseObject({
  ...locationFields,
  prefix: z.string().default(""),
  blocked: z.boolean().default(false),
  "mirror-by-digest-only": z.boolean().default(false),
  mirror: z.array(z.looseObject(locationFields)).default([]),
});
const oldList = z.looseObject({ registries: z.array(z.string()).optional() }).optional();
const fileSchema = z.looseObject({
  registry: z.array(tableSchema).optional(),
  "unqualified-search-registries": z.array(z.string()).optional(),
  "short-name-mode": z.enum(["", "enforcing", "permissive", "disabled"]).optional(),
  "credential-helpers": z.array(z.string()).optional(),
  aliases: z.record(z.string(), z.string()).optional(),
  registries: z.looseObject({ search: oldList, insecure: oldList, block: oldList }).optional(),
});
type File = z.infer<typeof fileSchema>;
type Table = z.infer<typeof tableSchema>;

/** Version 1 is read in main files only, as podman 5 does. FormatError naming `source` and the key. */
export function parseRegistriesConf(
  text: string,
  source: string,
  kind: "main" | "drop-in",
): RegistriesConfFile {
  const file = checkFile(text, source);
  const hasOldLists = [file.registries?.search, file.registries?.insecure, file.registries?.block]
    .map((list) => list?.registries)
    .some((list) => list !== undefined);
  if (hasOldLists) return readOldFormat(file, source, kind);
  const tables = (file.registry ?? []).map((table, index) => readTable(table, index, source));
  refuseContradictions(tables, source);
  return {
    registries: keepFirst(tables),
    searchHosts: readSearchHosts(file["unqualified-search-registries"], source),
    shortNameMode: file["short-name-mode"] || null,
    aliases: readAliases(file.aliases ?? {}, source),
    credentialHelpers: file["credential-helpers"] ?? null,
    source,
  };
}

function checkFile(text: string, source: string): File {
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    // The following lines of the message show the text, which may hold a proxy's password.
    const reason = String(cause instanceof Error ? cause.message : cause).split("\n", 1)[0]!;
    throw malformed(source, `it is not TOML: ${reason.replace(/:$/, "")}`);
  }
  const result = fileSchema.safeParse(lowerKeys(document, source));
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw malformed(source, `"${issue.path.map(String).join(".")}": ${issue.message}`);
}

/** Keys in lower case, except the names in `[aliases]`. Nothing this file reads lies deeper than six levels. */
function lowerKeys(value: unknown, source: string, levels = 6): unknown {
  if (levels === 0) return value;
  if (Array.isArray(value)) return value.map((item) => lowerKeys(item, source, levels - 1));
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  const entries = new Map<string, unknown>();
  for (const [key, item] of Object.entries(value)) {
    const name = key.toLowerCase();
    if (entries.has(name)) throw malformed(source, `the key "${name}" is there twice`);
    entries.set(name, name === "aliases" ? item : lowerKeys(item, source, levels - 1));
  }
  return Object.fromEntries(entries);
}

function readTable(table: Table, index: number, source: string): RegistryTable {
  const where = `registry ${index + 1}`;
  const location = readPlace(table.location, `${where}, "location"`, source);
  const prefix = readPrefix(table.prefix, `${where}, "prefix"`, source) || location;
  if (prefix === "") throw malformed(source, `${where} has neither "prefix" nor "location"`);
  if (location === "" && !prefix.startsWith("*.")) {
    throw malformed(source, `${where} (prefix "${prefix}") has no "location"; add it`);
  }
  if (table["pull-from-mirror"] !== "") {
    throw malformed(
      source,
      `"pull-from-mirror" belongs into a "[[registry.mirror]]" table, not to prefix "${prefix}"`,
    );
  }
  return {
    prefix,
    location,
    ...readAccess(table, prefix, source),
    isBlocked: table.blocked,
    mirrors: table.mirror.map((mirror) => readMirror(mirror, table, prefix, source)),
    source,
  };
}

function readMirror(
  mirror: Table["mirror"][number],
  table: Table,
  prefix: string,
  source: string,
): RegistryMirror {
  const where = `a mirror of prefix "${prefix}"`;
  const location = readPlace(mirror.location, `${where}, "location"`, source);
  if (location === "") throw malformed(source, `${where} has no "location"; add it`);
  const isByDigest = table["mirror-by-digest-only"];
  if (isByDigest && mirror["pull-from-mirror"] !== "") {
    throw malformed(
      source,
      `prefix "${prefix}" has "mirror-by-digest-only", its mirror "${location}" also "pull-from-mirror"; keep one`,
    );
  }
  const pullFrom = isByDigest ? "digest-only" : mirror["pull-from-mirror"] || "all";
  return { location, ...readAccess(mirror, prefix, source), pullFrom };
}

function readAccess(
  { insecure, proxy }: { readonly insecure: boolean; readonly proxy: string },
  prefix: string,
  source: string,
): Pick<RegistryLocation, "insecure" | "proxy"> {
  if (proxy === "") return { insecure, proxy: null };
  try {
    parseProxy(proxy, `"proxy" of prefix "${prefix}"`);
  } catch (error) {
    throw malformed(source, describeError(error));
  }
  return { insecure, proxy };
}

function readPrefix(text: string, where: string, source: string): string {
  if (!text.startsWith("*.")) return readPlace(text, where, source);
  const domain = trimSlashes(text).slice(2);
  if (domain === "" || /[/:@*]/.test(domain)) {
    throw malformed(source, `${where} "${text}": "*." goes before a host name alone`);
  }
  return `*.${readPlace(domain, where, source)}`;
}

/** "host[:port][/path][:tag|@digest]" with the host in lower case; "" stays "". */
function readPlace(text: string, where: string, source: string): string {
  const trimmed = trimSlashes(text);
  if (trimmed === "") return "";
  try {
    const { host, rest } = splitLocation(trimmed);
    return `${host}${rest}`;
  } catch (error) {
    throw malformed(source, `${where}: ${describeError(error)}`);
  }
}

function trimSlashes(text: string): string {
  return text.replace(/\/+$/, "");
}

/** Two tables may share a location only when they agree about it. */
function refuseContradictions(tables: readonly RegistryTable[], source: string): void {
  const seen = new Map<string, RegistryTable>();
  for (const table of tables) {
    const place = table.location || table.prefix;
    const other = seen.get(place) ?? table;
    seen.set(place, other);
    const key =
      (other.insecure !== table.insecure && "insecure") ||
      (other.isBlocked !== table.isBlocked && "blocked");
    if (key) throw malformed(source, `"${place}" is there twice with different "${key}"`);
  }
}

/** Of several tables with one prefix the first counts. */
function keepFirst(tables: readonly RegistryTable[]): readonly RegistryTable[] {
  const byPrefix = new Map<string, RegistryTable>();
  for (const table of tables) if (!byPrefix.has(table.prefix)) byPrefix.set(table.prefix, table);
  return [...byPrefix.values()];
}

function readSearchHosts(
  hosts: readonly string[] | undefined,
  source: string,
): readonly string[] | null {
  if (hosts === undefined) return null;
  return hosts.map((host) => {
    try {
      return normalizeHost(trimSlashes(host), host);
    } catch (error) {
      throw malformed(source, `"unqualified-search-registries": ${describeError(error)}`);
    }
  });
}

function readAliases(
  aliases: Readonly<Record<string, string>>,
  source: string,
): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(aliases).map(([name, value]) => {
      try {
        return [readAliasName(name), value === "" ? "" : readAliasValue(value)];
      } catch (error) {
        throw malformed(source, `alias "${name}": ${describeError(error)}`);
      }
    }),
  );
}

function readAliasName(name: string): string {
  const short = parseShortName(name);
  if (short === null) throw new FormatError("bad-value", "the name must not have a registry");
  if (short.tag !== null || short.digest !== null) {
    throw new FormatError("bad-value", "the name must not have a tag or digest");
  }
  return short.path;
}

function readAliasValue(value: string): string {
  const { host, repository } = parseRegistryReference(value);
  if (parseShortName(value) !== null) {
    throw new FormatError("bad-value", `"${value}" does not name a registry`);
  }
  if (/[:@]/.test(value.slice(value.indexOf("/")))) {
    throw new FormatError("bad-value", `"${value}" must not have a tag or digest`);
  }
  return `${host}/${repository}`;
}

const OLD_FORMAT_ADVICE = `write "unqualified-search-registries = […]" for "registries.search", and a "[[registry]]" table with "location" and "insecure" or "blocked" for each of the others`;

/** `[registries.search]`, `[registries.insecure]`, `[registries.block]`. */
function readOldFormat(file: File, source: string, kind: "main" | "drop-in"): RegistriesConfFile {
  if (kind === "drop-in") {
    throw malformed(source, `it is in the old version 1 format; ${OLD_FORMAT_ADVICE}`);
  }
  const newKeys = Object.keys(fileSchema.shape).filter((key) => key !== "registries");
  const mixed = newKeys.find((key) => file[key] !== undefined);
  if (mixed !== undefined) {
    throw malformed(
      source,
      `"${mixed}" and the old "registries" lists exclude each other; ${OLD_FORMAT_ADVICE}`,
    );
  }
  const { search, insecure, block } = file.registries!;
  const read = (list: typeof search, name: string) =>
    (list?.registries ?? []).map((text) => {
      const place = readPlace(text, `"registries.${name}"`, source);
      if (place !== "") return place;
      throw malformed(source, `"registries.${name}" has an empty name; remove it`);
    });
  const insecurePlaces = new Set(read(insecure, "insecure"));
  const blockedPlaces = new Set(read(block, "block"));
  return {
    registries: [...new Set([...blockedPlaces, ...insecurePlaces])].map((location) => ({
      prefix: location,
      location,
      insecure: insecurePlaces.has(location),
      proxy: null,
      isBlocked: blockedPlaces.has(location),
      mirrors: [],
      source,
    })),
    searchHosts: readSearchHosts(search?.registries, source),
    shortNameMode: null,
    aliases: new Map(),
    credentialHelpers: null,
    source,
  };
}

function malformed(source: string, reason: string): FormatError {
  return new FormatError("bad-value", `Cannot read "${source}": ${reason}`, {
    format: "registries.conf",
    path: source,
  });
}
