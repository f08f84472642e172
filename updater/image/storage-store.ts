// containers-storage on the disk: a graph root with the records of images and layers, what belongs to an
// image ("big data": manifest, config, signatures), and where the files of a layer lie.
//
//   <driver>-images/images.json, <driver>-images/<id>/<big data>
//   <driver>-layers/layers.json, <driver>-layers/<id>.tar-split.gz
//   overlay/<layer id>/diff, vfs/dir/<layer id>
//
// Nothing is written. The records change by rename under locks (fcntl(2)), which are taken shared while
// they are read, and while a layer's files are, as containers-storage itself does.
// Source: github.com/containers/storage (docs and on-disk format; now go.podman.io/storage).

import { setTimeout } from "node:timers/promises";
import * as z from "zod";
import { FormatError, isErrno, StateError, UnsupportedError } from "../../shared/error.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openRegularFile, readAll } from "../../shared/sys/file.ts";
import { lockFile } from "../../shared/sys/range-lock.ts";
import { fstatat } from "../../shared/sys/stat.ts";
import type { StoreRoots } from "./storage-conf.ts";

const MAX_RECORDS_BYTES = 256 << 20;
const LOCK_POLL_MS = 50;
const LOCK_WAIT_MS = 120_000;
const DRIVERS = ["overlay", "vfs"] as const;
type Driver = (typeof DRIVERS)[number];

/** One directory with images. */
export interface Store {
  readonly graphRoot: string;
  readonly driver: Driver;
}

const idSchema = z.string().regex(/^[0-9a-f]{64}$/, "is not 64 hex digits");

const imageSchema = z.looseObject({
  id: idSchema,
  digest: z.string().optional(),
  names: z.array(z.string()).nullish(),
  /** The topmost; absent for lists of images. */
  layer: z.union([idSchema, z.literal("")]).nullish(),
  metadata: z.string().optional(),
  "big-data-names": z.array(z.string()).nullish(),
  "big-data-digests": z.record(z.string(), z.string()).nullish(),
});
const layerSchema = z.looseObject({
  id: idSchema,
  parent: z.union([idSchema, z.literal("")]).nullish(),
  "diff-digest": z.union([digestSchema, z.literal("")]).nullish(),
  flags: z.record(z.string(), z.unknown()).nullish(),
});

export interface StoredImage extends z.infer<typeof imageSchema> {
  readonly store: Store;
}
export interface StoredLayer extends z.infer<typeof layerSchema> {
  readonly store: Store;
}

/** Those of `roots` that exist. StateError when none does, UnsupportedError for other drivers. */
export function findStores({ driver, paths }: StoreRoots): readonly Store[] {
  const stores = paths.flatMap((graphRoot): Store[] => {
    if (driver !== null && !isDriver(driver)) throw unknownDriver(driver, graphRoot);
    const drivers = driver === null ? DRIVERS : [driver];
    const found = drivers.filter((name) => exists(`${graphRoot}/${name}-images`));
    return found.map((name) => ({ graphRoot, driver: name }));
  });
  if (stores.length > 0) return stores;
  throw new StateError(
    "missing",
    `There is no containers-storage with images in ${paths.map((path) => `"${path}"`).join(", ")}; ` +
      'name another with "containers-storage:[overlay@/path]IMAGE", and see that it is mounted',
  );
}

function isDriver(name: string): name is Driver {
  return DRIVERS.some((driver) => driver === name);
}

function unknownDriver(driver: string, graphRoot: string): UnsupportedError {
  return new UnsupportedError(
    "transport",
    `The storage "${graphRoot}" has driver "${driver}"; only ${DRIVERS.join(" and ")} can be read in place. ` +
      'Copy the image with "skopeo copy containers-storage:IMAGE oci:DIRECTORY" and use transport "oci"',
  );
}

function exists(path: string): boolean {
  try {
    fstatat(null, path, { follow: true });
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

export async function readImages(store: Store): Promise<readonly StoredImage[]> {
  const records = await readRecords(store, "images", z.array(imageSchema));
  return records.map((record) => ({ ...record, store }));
}

export async function readLayers(store: Store): Promise<readonly StoredLayer[]> {
  const records = await readRecords(store, "layers", z.array(layerSchema));
  return records.map((record) => ({ ...record, store }));
}

async function readRecords<T>(
  store: Store,
  kind: "images" | "layers",
  schema: z.ZodType<readonly T[]>,
): Promise<readonly T[]> {
  using _ = await lockStore(store, kind);
  const path = `${store.graphRoot}/${store.driver}-${kind}/${kind}.json`;
  using fd = openIfThere(path);
  return fd === null ? [] : parseJson(schema, readAll(fd, MAX_RECORDS_BYTES), `"${path}"`);
}

/** Something that belongs to an image, e.g. "manifest"; null when it has no such thing. */
export function readBigData(
  image: StoredImage,
  key: string,
  limitBytes: number,
): Uint8Array | null {
  if (image["big-data-names"]?.includes(key) !== true) return null;
  const { graphRoot, driver } = image.store;
  const directory = `${graphRoot}/${driver}-images/${image.id}`;
  using fd = openIfThere(`${directory}/${bigDataName(key)}`);
  return fd === null ? null : readAll(fd, limitBytes);
}

function bigDataName(key: string): string {
  return /^[.0-9a-z]+$/.test(key) ? key : `=${Buffer.from(key).toString("base64")}`;
}

/** The layer's archive without the contents of its files. FormatError("not-found") without it. */
export function openTarSplit({ store, id }: StoredLayer): Fd {
  const path = `${store.graphRoot}/${store.driver}-layers/${id}.tar-split.gz`;
  const fd = openIfThere(path);
  if (fd !== null) return fd;
  throw new FormatError(
    "not-found",
    `Layer "${id}" cannot be read in place: there is no "${path}", which tells how its tar was; ` +
      'copy the image with "skopeo copy containers-storage:IMAGE oci:DIRECTORY" and use transport "oci"',
  );
}

/** The directory with the layer's files. UnsupportedError when they are kept in another way. */
export function openLayerFiles({ store, id }: StoredLayer): Fd {
  const { graphRoot, driver } = store;
  if (driver === "vfs") return openDirectory(`${graphRoot}/vfs/dir/${id}`);
  if (exists(`${graphRoot}/overlay/${id}/composefs-data`)) {
    throw new UnsupportedError(
      "transport",
      `Layer "${id}" in "${graphRoot}" is kept as composefs, which cannot be read in place; ` +
        'copy the image with "skopeo copy containers-storage:IMAGE oci:DIRECTORY" and use transport "oci"',
    );
  }
  return openDirectory(`${graphRoot}/overlay/${id}/diff`);
}

/** Null when it is not there; FormatError when it is not a regular file. */
function openIfThere(path: string): Fd | null {
  let fd: Fd | null;
  try {
    fd = openRegularFile(null, path);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
  if (fd !== null) return fd;
  throw new FormatError("bad-value", `"${path}" is not a regular file`, { path });
}

function openDirectory(path: string): Fd {
  return openat(null, path, O.PATH | O.DIRECTORY);
}

/** Shared with readers, until disposed of. StateError("locked") when a writer does not finish. */
export async function lockStore(store: Store, kind: "images" | "layers"): Promise<Disposable> {
  const path = `${store.graphRoot}/${store.driver}-${kind}/${kind}.lock`;
  const fd = openIfThere(path);
  // A store on a read-only medium may have none, and no writers either.
  if (fd === null) return { [Symbol.dispose]() {} };
  try {
    // Not the waiting form: it would hold up everything else, an interruption included.
    for (const end = performance.now() + LOCK_WAIT_MS; !lockFile(fd, "shared", { wait: false }); ) {
      if (performance.now() > end) throw locked(path);
      await setTimeout(LOCK_POLL_MS);
    }
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

function locked(path: string): StateError {
  return new StateError(
    "locked",
    `Another program, e.g. podman, has held the lock "${path}" for ${LOCK_WAIT_MS / 1000} s; wait until it has finished`,
    { path },
  );
}
