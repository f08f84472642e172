// Where containers-storage keeps its images on this machine: storage.conf (containers-storage.conf(5)).
//
// /usr/share/containers/storage.conf, then /etc/containers/storage.conf, then drop-ins of either place by
// name; what a later file says counts. $CONTAINERS_STORAGE_CONF names one file instead. Only root's storage is looked at:
// who can deploy is root.

import { parse } from "@iarna/toml";
import * as z from "zod";
import { FormatError } from "../../shared/error.ts";
import {
  type ConfigPlace,
  listConfigDirectory,
  placePath,
  readConfigText,
  readVariable,
} from "../registry/config-place.ts";
import type { StoreSpecifier } from "./storage-reference.ts";

const DEFAULT_GRAPH_ROOT = "/var/lib/containers/storage";

/** Directories with images, in the order in which they are searched. */
export interface StoreRoots {
  /** Null: whichever is found. */
  readonly driver: string | null;
  readonly paths: readonly string[];
}

const list = z.array(z.string());
const confSchema = z.looseObject({
  storage: z
    .looseObject({
      driver: z.string().optional(),
      graphroot: z.string().optional(),
      imagestore: z.string().optional(),
      options: z.looseObject({ additionalimagestores: list.optional() }).optional(),
    })
    .optional(),
});
type Storage = NonNullable<z.infer<typeof confSchema>["storage"]>;

/** FormatError naming file and key. */
export function readStoreRoots(place: ConfigPlace): StoreRoots {
  const merged: Storage = {};
  for (const path of listFiles(place)) {
    const storage = readStorage(path);
    const { driver, graphroot, imagestore, options } = storage;
    if (driver) merged.driver = driver;
    if (graphroot) merged.graphroot = graphroot;
    if (imagestore) merged.imagestore = imagestore;
    if (options?.additionalimagestores !== undefined) merged.options = options;
  }
  const options = (readVariable(place, "STORAGE_OPTS") ?? "").split(",");
  const driver = readVariable(place, "STORAGE_DRIVER") ?? merged.driver ?? null;
  const graphRoot = merged.graphroot ?? placePath(place, DEFAULT_GRAPH_ROOT);
  const own = merged.imagestore === undefined ? [graphRoot] : [graphRoot, merged.imagestore];
  const more = [...(merged.options?.additionalimagestores ?? []), ...listImageStores(options)];
  return { driver, paths: [...own, ...more] };
}

/** What the brackets of a reference say. */
export function storeRootsOf({ driver, graphRoot, options }: StoreSpecifier): StoreRoots {
  return { driver, paths: [graphRoot, ...listImageStores(options)] };
}

function listFiles(place: ConfigPlace): readonly string[] {
  const given = readVariable(place, "CONTAINERS_STORAGE_CONF");
  if (given !== null) return [given];
  const directories = ["/usr/share/containers", "/etc/containers"].map((path) =>
    placePath(place, path),
  );
  // Of two drop-ins with one name, that of /etc counts.
  const dropIns = new Map<string, string>();
  for (const directory of directories) {
    for (const name of listConfigDirectory(`${directory}/storage.conf.d`) ?? []) {
      if (name.endsWith(".conf")) dropIns.set(name, `${directory}/storage.conf.d/${name}`);
    }
  }
  const names = [...dropIns.keys()].sort();
  return [
    ...directories.map((directory) => `${directory}/storage.conf`),
    ...names.map((name) => dropIns.get(name)!),
  ];
}

function readStorage(path: string): Storage {
  const text = readConfigText(path);
  if (text === null) return {};
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw new FormatError("bad-value", `"${path}" is not TOML`, { path }, { cause });
  }
  const result = confSchema.safeParse(value);
  if (result.success) return result.data.storage ?? {};
  const [issue] = result.error.issues;
  const field = issue?.path.map(String).join(".");
  throw new FormatError("bad-value", `"${path}" is wrong at "${field}": ${issue?.message}`, {
    path,
  });
}

/** "overlay.imagestore=/path", "additionalimagestore=/path": image stores beside the main one. */
function listImageStores(options: readonly string[]): readonly string[] {
  return options.flatMap(
    (option) =>
      /^(?:\w+\.)?(?:imagestore|additionalimagestore)=(\/.*)$/s.exec(option.trim())?.[1] ?? [],
  );
}
