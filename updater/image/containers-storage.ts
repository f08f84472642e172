// The `containers-storage:` transport: an image of podman, buildah or CRI-O, read in place. Its manifest and
// config are the published ones; its layers are files, which are shared with or copied into the repository,
// and count only because the tar they make has the digest that the config promises.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import {
  type Descriptor,
  guessManifestType,
  MAX_DOCUMENT_BYTES,
} from "../../shared/format/oci/manifest.ts";
import { type ConfigPlace, hostConfigPlace } from "../registry/config-place.ts";
import { type ByteSource, verifyBlob } from "./blob.ts";
import {
  type AdmitImage,
  type ImageSource,
  type ResolvedImage,
  resolveImage,
} from "./resolved-image.ts";
import { readStoreRoots, storeRootsOf } from "./storage-conf.ts";
import { joinPieces, readStoredLayer } from "./storage-pieces.ts";
import { parseStorageReference, type StorageReference, storedName } from "./storage-reference.ts";
import { readStoredSignatures } from "./storage-signatures.ts";
import {
  findStores,
  readBigData,
  readImages,
  readLayers,
  type Store,
  type StoredImage,
  type StoredLayer,
} from "./storage-store.ts";

const MANIFEST_KEY = "manifest";
const MAX_LISTED = 20;
const MAX_LAYERS = 4096;

interface OpenedImage {
  readonly resolved: ResolvedImage;
  /** By diff_id. */
  readonly layers: ReadonlyMap<string, StoredLayer>;
}

/** UsageError when `image` is no reference. */
export function openContainersStorage(
  image: string,
  architecture: string,
  place: ConfigPlace = hostConfigPlace(),
): ImageSource {
  const name = `containers-storage:${image}`;
  const reference = parseStorageReference(image);
  let opened: Promise<OpenedImage> | null = null;
  const open = (admit?: AdmitImage) => openImage(reference, place, architecture, name, admit);
  const openPieces = async function* (_layer: Descriptor, diffId: string) {
    opened ??= open();
    const layer = (await opened).layers.get(diffId);
    const what = `layer ${diffId} of "${name}"`;
    if (layer !== undefined) yield* readStoredLayer(layer, what);
    else throw new IntegrityError("missing-object", `There is no ${what}`, { digest: diffId });
  };
  return {
    name,
    resolve: async (admit) => {
      opened = open(admit);
      return (await opened).resolved;
    },
    signatures: {
      async *readSignatures(digest) {
        yield* readStoredSignatures(await findStored(reference, place, name), digest);
      },
    },
    openPieces,
    openLayer: (layer, diffId) =>
      verifyBlob(
        joinPieces(openPieces(layer, diffId)),
        { digest: diffId, size: null },
        `Layer ${diffId} of "${name}"`,
      ),
  };
}

async function openImage(
  reference: StorageReference,
  place: ConfigPlace,
  architecture: string,
  name: string,
  admit?: AdmitImage,
): Promise<OpenedImage> {
  const { image, images, stores } = await findStored(reference, place, name);
  const start = startOf(image, images, reference, name);
  const resolved = await resolveImage(start.first, start.open, architecture, name, admit);
  const owner = findOwner(image, images, resolved, name);
  const layers = (await Promise.all(stores.map(readLayers))).flat();
  return { resolved, layers: pairLayers(owner, layers, resolved, name) };
}

interface FoundImage {
  readonly image: StoredImage;
  readonly images: readonly StoredImage[];
  readonly stores: readonly Store[];
}

async function findStored(
  reference: StorageReference,
  place: ConfigPlace,
  name: string,
): Promise<FoundImage> {
  const roots = reference.store === null ? readStoreRoots(place) : storeRootsOf(reference.store);
  const stores = findStores(roots);
  const images = (await Promise.all(stores.map(readImages))).flat();
  return { image: findImage(images, reference, name), images, stores };
}

/** FormatError("not-found") says which images there are. */
function findImage(
  images: readonly StoredImage[],
  { id, name, shortId }: StorageReference,
  text: string,
): StoredImage {
  const isWanted = (image: StoredImage): boolean => {
    if (id !== null) return image.id === id;
    if (name === null) return false;
    const names = image.names ?? [];
    if (name.digest === null) return names.includes(storedName(name) ?? "");
    return hasDigest(image, name.digest) && isOfRepository(names, name);
  };
  const short = shortId === null ? [] : images.filter((image) => image.id.startsWith(shortId));
  const shortIds = new Set(short.map((image) => image.id));
  const image = shortIds.size === 1 ? short[0] : images.find(isWanted);
  if (image !== undefined) return image;
  if (shortIds.size > 1) {
    throw new FormatError("not-found", `"${text}" is the beginning of more than one image's id`);
  }
  throw new FormatError("not-found", `There is no image "${text}"; ${offer(images)}`);
}

function hasDigest(image: StoredImage, digest: string): boolean {
  return image.digest === digest || Object.values(image["big-data-digests"] ?? {}).includes(digest);
}

/** A digest is asked for by a name: the image must have been that, with whatever tag. */
function isOfRepository(
  names: readonly string[],
  { host, repository }: { readonly host: string; readonly repository: string },
): boolean {
  const own = `${host}/${repository}`;
  return names.some((name) => name.startsWith(`${own}:`) || name.startsWith(`${own}@`));
}

function offer(images: readonly StoredImage[]): string {
  const names = images.flatMap((image) => image.names ?? []);
  if (names.length === 0) return `the storage has ${images.length} images, none with a name`;
  const listed = names.slice(0, MAX_LISTED).map((name) => `"${name}"`);
  const more = names.length > MAX_LISTED ? `, and ${names.length - MAX_LISTED} more` : "";
  return `there are ${listed.join(", ")}${more}`;
}

/** The first document, and how the others are read. */
function startOf(
  image: StoredImage,
  images: readonly StoredImage[],
  { name: wanted }: StorageReference,
  name: string,
): { readonly first: Descriptor; readonly open: (descriptor: Descriptor) => ByteSource } {
  const read = (digest: string): Uint8Array | null => readDocument(image, images, digest);
  const digest = wanted?.digest ?? null;
  const bytes =
    digest === null ? readBigData(image, MANIFEST_KEY, MAX_DOCUMENT_BYTES) : read(digest);
  if (bytes === null) {
    throw new IntegrityError(
      "missing-object",
      `The manifest of "${name}" is not in the storage; pull the image again`,
    );
  }
  const mediaType = guessManifestType(bytes, `Manifest of "${name}"`);
  const first = { mediaType, digest: digest ?? computeDigest(bytes), size: bytes.length };
  const open = async function* (descriptor: Descriptor): ByteSource {
    const found = descriptor === first ? bytes : read(descriptor.digest);
    if (found !== null) yield found;
    else {
      throw new IntegrityError(
        "missing-object",
        `${descriptor.digest} of "${name}" is not in the storage; pull the image again`,
        { digest: descriptor.digest },
      );
    }
  };
  return { first, open };
}

/** A manifest or config: of the image itself, else of those a list may point to. */
function readDocument(
  image: StoredImage,
  images: readonly StoredImage[],
  digest: string,
): Uint8Array | null {
  const keys = [`manifest-${digest}`, digest];
  const own = firstData([image], keys);
  if (own !== null) return own;
  const others = images.filter((other) => other !== image && hasDigest(other, digest));
  return firstData(others, [...keys, MANIFEST_KEY]);
}

function firstData(images: readonly StoredImage[], keys: readonly string[]): Uint8Array | null {
  for (const image of images) {
    for (const key of keys) {
      const bytes = readBigData(image, key, MAX_DOCUMENT_BYTES);
      if (bytes !== null) return bytes;
    }
  }
  return null;
}

/** The record that has the layers: with a list of images it is not the one that was named. */
function findOwner(
  image: StoredImage,
  images: readonly StoredImage[],
  { manifestDigest }: ResolvedImage,
  name: string,
): StoredImage {
  const owner = [image, ...images].find((each) => each.layer && hasDigest(each, manifestDigest));
  if (owner !== undefined) return owner;
  throw new IntegrityError(
    "missing-object",
    `The layers of "${name}" are not in the storage; pull the image again`,
  );
}

/** From the topmost layer down, and then the other way round beside the config's list. */
function pairLayers(
  image: StoredImage,
  all: readonly StoredLayer[],
  { config }: ResolvedImage,
  name: string,
): ReadonlyMap<string, StoredLayer> {
  // Other stores may have layers of the same ids; the image's own come first.
  const own = all.filter(({ store }) => store === image.store);
  const byId = new Map([...all, ...own].map((layer) => [layer.id, layer]));
  const diffIds = config.rootfs.diff_ids;
  const chain: StoredLayer[] = [];
  for (let id = image.layer; id && chain.length <= MAX_LAYERS; ) {
    const layer = byId.get(id);
    if (layer === undefined) throw unusable(name, `layer "${id}" is not in the storage`);
    if (layer.flags?.["incomplete"] === true) throw unusable(name, `layer "${id}" is not complete`);
    chain.unshift(layer);
    id = layer.parent;
  }
  const isSame =
    chain.length === diffIds.length &&
    chain.every(({ "diff-digest": digest }, i) => !digest || digest === diffIds[i]);
  if (!isSame) throw unusable(name, "its layers in the storage are not those of its config");
  return new Map(diffIds.map((diffId, i) => [diffId, chain[i]!]));
}

function unusable(name: string, problem: string): IntegrityError {
  const message = `"${name}" is damaged: ${problem}; pull the image again`;
  return new IntegrityError("missing-object", message);
}
