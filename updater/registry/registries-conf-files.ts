// Reads and merges the registries.conf files of a machine (containers-registries.conf(5), .d(5)), by the rules of
// podman 6, which also hold for older programs as long as no user has a registries.conf of their own:
//
//   one main file: the user's, else /etc/containers/registries.conf, else /usr/share/containers/registries.conf
//   then drop-ins (*.conf) by name; of one name the user's, else that of /etc, else that of /usr/share
//   $CONTAINERS_REGISTRIES_CONF replaces all of these, $CONTAINERS_REGISTRIES_CONF_OVERRIDE comes last

import { statSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import {
  type ConfigPlace,
  listConfigDirectory,
  placePath,
  readConfigText,
  readVariable,
  userConfigDirectory,
} from "./config-place.ts";
import {
  EMPTY_REGISTRIES_CONF,
  type RegistriesConf,
  type RegistryTable,
} from "./registries-conf.ts";
import { parseRegistriesConf, type RegistriesConfFile } from "./registries-conf-parse.ts";

const VARIABLE = "CONTAINERS_REGISTRIES_CONF";
const NAME = "containers/registries.conf";

/** Everything merged; `EMPTY_REGISTRIES_CONF` without files. FormatError naming file and key. */
export function readRegistriesConf(place: ConfigPlace): RegistriesConf {
  const given = readNamed(place, VARIABLE, "main");
  const mains = given === null ? firstOf(mainPaths(place)) : [given];
  const dropIns = listDropIns(place, given !== null).flatMap((path) =>
    readIfThere(path, "drop-in"),
  );
  const override = readNamed(place, `${VARIABLE}_OVERRIDE`, "drop-in");
  return mergeFiles([...mains, ...dropIns, ...(override === null ? [] : [override])]);
}

/** The file that a variable names, which must be there; null when the variable is not set. */
function readNamed(
  place: ConfigPlace,
  variable: string,
  kind: "main" | "drop-in",
): RegistriesConfFile | null {
  const path = readVariable(place, variable);
  if (path === null) return null;
  const text = readConfigText(path);
  if (text === null) {
    throw new StateError(
      "missing",
      `"${path}", which $${variable} names, is not there; create it or unset the variable`,
      { path },
    );
  }
  return parseRegistriesConf(text, path, kind);
}

function readIfThere(path: string, kind: "main" | "drop-in"): readonly RegistriesConfFile[] {
  const text = readConfigText(path);
  return text === null ? [] : [parseRegistriesConf(text, path, kind)];
}

function firstOf(paths: readonly string[]): readonly RegistriesConfFile[] {
  for (const path of paths) {
    const found = readIfThere(path, "main");
    if (found.length > 0) return found;
  }
  return [];
}

/** Most important first. */
function mainPaths(place: ConfigPlace): readonly string[] {
  const user = userConfigDirectory(place);
  return [
    ...(user === null ? [] : [join(user, NAME)]),
    placePath(place, `/etc/${NAME}`),
    placePath(place, `/usr/share/${NAME}`),
  ];
}

/** Paths of drop-ins in the order in which they apply. */
function listDropIns(place: ConfigPlace, isReplaced: boolean): readonly string[] {
  const byName = new Map<string, string>();
  for (const directory of dropInDirectories(place, isReplaced)) {
    for (const name of listConfigDirectory(directory) ?? []) {
      const path = join(directory, name);
      if (name.endsWith(".conf") && !isDirectory(path)) byName.set(name, path);
    }
  }
  return [...byName.keys()].sort().map((name) => byName.get(name)!);
}

/** Least important first. */
function dropInDirectories(place: ConfigPlace, isReplaced: boolean): readonly string[] {
  const given = readVariable(place, `${VARIABLE}_DIR`);
  if (given !== null) return [given];
  if (isReplaced) return [];
  const user = userConfigDirectory(place);
  return [
    ...["/usr/share", "/etc"].flatMap((base) => systemDropIns(place, base)),
    ...(user === null ? [] : [join(user, `${NAME}.d`)]),
  ];
}

function systemDropIns(place: ConfigPlace, base: string): readonly string[] {
  const stem = placePath(place, `${base}/containers/registries`);
  if (place.userId === 0) return [`${stem}.conf.d`, `${stem}.rootful.conf.d`];
  const rootless = `${stem}.rootless.conf.d`;
  return [`${stem}.conf.d`, rootless, join(rootless, String(place.userId))];
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Later files win: whole `[[registry]]` tables by prefix, aliases by name, everything else as a value. */
function mergeFiles(files: readonly RegistriesConfFile[]): RegistriesConf {
  const tables = new Map<string, RegistryTable>();
  const aliases = new Map<string, { readonly name: string; readonly source: string }>();
  let { searchRegistries, shortNameMode, credentialHelpers } = EMPTY_REGISTRIES_CONF;
  for (const file of files) {
    const { source } = file;
    for (const table of file.registries) tables.set(table.prefix, table);
    for (const [name, value] of file.aliases) {
      if (value === "") aliases.delete(name);
      else aliases.set(name, { name: value, source });
    }
    if (file.searchHosts !== null) searchRegistries = { hosts: file.searchHosts, source };
    shortNameMode = file.shortNameMode ?? shortNameMode;
    credentialHelpers = file.credentialHelpers ?? credentialHelpers;
  }
  if (credentialHelpers.length === 0) credentialHelpers = EMPTY_REGISTRIES_CONF.credentialHelpers;
  const prefixes = [...tables.keys()].sort();
  const registries = prefixes.map((prefix) => tables.get(prefix)!);
  return { registries, searchRegistries, shortNameMode, aliases, credentialHelpers };
}
