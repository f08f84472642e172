// The `docker-archive:` transport: what `docker save` and `podman save` write, "path[:name[:tag]]" or
// "path[:@index]".
//
// Such an archive has no image manifest. One is made, byte for byte the one that containers/image makes of
// it, so that the digest is the one skopeo shows: Docker's schema 2, layers by the digest and size of their
// tars (the media type says gzip all the same). Nothing else promises the config; the layers must be the
// tars whose digests it lists.

import * as z from "zod";
import { abortable } from "../../shared/abortable.ts";
import { FormatError, IntegrityError, UsageError } from "../../shared/error.ts";
import { parseImageConfig } from "../../shared/format/oci/config.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import { type Descriptor, MAX_DOCUMENT_BYTES } from "../../shared/format/oci/manifest.ts";
import {
  DOCKER_CONFIG,
  DOCKER_LAYER,
  DOCKER_MANIFEST,
} from "../../shared/format/oci/media-type.ts";
import { formatRegistryReference, parseRegistryReference } from "../registry/reference.ts";
import { type ArchiveFile, openArchive, openOnDemand } from "./archive-file.ts";
import type { ArchiveMember } from "./archive-index.ts";
import { type ByteSource, oneChunk, verifyBlob } from "./blob.ts";
import { decompress } from "./decompression.ts";
import { limitTarBytes } from "./layers.ts";
import { type ImageChoice, splitPathReference } from "./path-reference.ts";
import { type ImageSource, type ResolvedImage, resolveImage } from "./resolved-image.ts";

const MANIFEST_FILE = "manifest.json";
const MAX_IMAGES = 4096;
const MAX_LAYERS = 4096;

const imagesSchema = z
  .array(
    z.looseObject({
      Config: z.string(),
      RepoTags: z.array(z.string()).max(MAX_IMAGES).nullish(),
      Layers: z.array(z.string()).min(1).max(MAX_LAYERS),
    }),
  )
  .max(MAX_IMAGES);
type ArchivedImage = z.infer<typeof imagesSchema>[number];

/** An image of the archive, with what it needs to be read. */
interface OpenedImage {
  readonly resolved: ResolvedImage;
  /** By diff_id. */
  readonly layers: ReadonlyMap<string, ArchiveMember>;
}

/** UsageError when `image` is no reference. */
export function openDockerArchive(image: string, architecture: string): ImageSource {
  const { path, choice } = splitPathReference(image);
  const name = `docker-archive:${image}`;
  const normal =
    choice?.kind === "name" ? { ...choice, name: normalizeName(choice.name, name) } : choice;
  return openDockerImage(name, (signal) => openArchive(path, signal), normal, architecture);
}

/** The image that `choice` means in the archive that `open` gives, for docker-daemon as well. */
export function openDockerImage(
  name: string,
  open: (signal: AbortSignal) => Promise<ArchiveFile>,
  choice: ImageChoice | null,
  architecture: string,
): ImageSource {
  const archive = openOnDemand(name, open);
  let image: Promise<OpenedImage> | null = null;
  const openImage = () => {
    image ??= archive
      .open()
      .then((each) => resolveDockerImage(each, choice, architecture, name, archive.signal));
    return image;
  };
  return {
    name,
    resolve: async () => (await openImage()).resolved,
    openLayer: (layer, diffId) => openLayer(archive.open, openImage, layer, diffId, name),
    [Symbol.asyncDispose]: async () => await archive[Symbol.asyncDispose](),
  };
}

/** The tar, unpacked when the archive has it compressed. */
async function* openLayer(
  open: () => Promise<ArchiveFile>,
  openImage: () => Promise<OpenedImage>,
  layer: Descriptor,
  diffId: string,
  name: string,
): ByteSource {
  const what = `Layer ${diffId} of "${name}"`;
  const member = (await openImage()).layers.get(diffId);
  if (member === undefined) {
    throw new IntegrityError("missing-object", `${what} is not in the archive`, { digest: diffId });
  }
  const tar = decompress((await open()).open(member), what);
  yield* verifyBlob(tar, { ...layer, digest: diffId }, what);
}

async function resolveDockerImage(
  archive: ArchiveFile,
  choice: ImageChoice | null,
  architecture: string,
  name: string,
  signal: AbortSignal,
): Promise<OpenedImage> {
  const archived = chooseImage(await readImages(archive), choice, `Archive "${archive.path}"`);
  const configBytes = await readConfig(archive, archived.Config);
  const what = `Config "${archived.Config}" of "${name}"`;
  const { rootfs } = parseImageConfig(configBytes, archived.Layers.length, what);
  const layers = new Map<string, ArchiveMember>();
  const descriptors: object[] = [];
  for (const [i, digest] of rootfs.diff_ids.entries()) {
    const member = findMember(archive, archived.Layers[i]!);
    layers.set(digest, member);
    const size = await measureTar(archive, member, signal);
    descriptors.push({ mediaType: DOCKER_LAYER, size, digest });
  }
  const config = { mediaType: DOCKER_CONFIG, ...measure(configBytes) };
  const manifestBytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: DOCKER_MANIFEST,
      config,
      layers: descriptors,
    }),
  );
  const manifest = { mediaType: DOCKER_MANIFEST, ...measure(manifestBytes) };
  const documents = new Map([
    [config.digest, configBytes],
    [manifest.digest, manifestBytes],
  ]);
  const open = ({ digest }: Descriptor) => oneChunk(documents.get(digest)!);
  return { resolved: await resolveImage(manifest, open, architecture, name), layers };
}

function measure(bytes: Uint8Array): { readonly size: number; readonly digest: string } {
  return { size: bytes.length, digest: computeDigest(bytes) };
}

async function readImages(archive: ArchiveFile): Promise<readonly ArchivedImage[]> {
  const member = archive.find(MANIFEST_FILE);
  if (member !== null) {
    const bytes = await archive.read(member, MAX_DOCUMENT_BYTES);
    return parseJson(imagesSchema, bytes, `File "${MANIFEST_FILE}" of "${archive.path}"`);
  }
  const isOci = archive.find("oci-layout") !== null;
  const advice = isOci ? '; for an archive in OCI format use transport "oci-archive"' : "";
  throw new FormatError(
    "not-found",
    `"${archive.path}" is not an archive of "docker save": it has no file "${MANIFEST_FILE}"${advice}`,
  );
}

function chooseImage(
  images: readonly ArchivedImage[],
  choice: ImageChoice | null,
  what: string,
): ArchivedImage {
  const names = images.flatMap(({ RepoTags }) => RepoTags ?? []);
  const offered =
    names.length === 0
      ? "its images have no names"
      : `its images are ${names.map((name) => `"${name}"`).join(", ")}`;
  const [first] = images;
  if (first === undefined) throw new FormatError("not-found", `${what} has no images`);
  if (choice === null) {
    if (images.length === 1) return first;
    const advice = 'choose one with ":name:tag" or ":@number" (from 0) after the path';
    throw new FormatError(
      "not-found",
      `${what} has ${images.length} images; ${advice} (${offered})`,
    );
  }
  if (choice.kind === "index") {
    const image = images[choice.index];
    if (image !== undefined) return image;
    const problem = `has no image "@${choice.index}"; it has ${images.length}, counted from 0`;
    throw new FormatError("not-found", `${what} ${problem}`);
  }
  const found = images.filter(({ RepoTags }) => RepoTags?.some((tag) => isName(tag, choice.name)));
  if (found.length === 1) return found[0]!;
  const problem =
    found.length === 0
      ? `has no image "${choice.name}"; ${offered}`
      : `has more than one image "${choice.name}"`;
  throw new FormatError(found.length === 0 ? "not-found" : "bad-value", `${what} ${problem}`);
}

/** A name in an archive may be anything; what is none is not meant. */
function isName(text: string, wanted: string): boolean {
  try {
    return formatRegistryReference(parseRegistryReference(text)) === wanted;
  } catch (error) {
    if (error instanceof UsageError) return false;
    throw error;
  }
}

function normalizeName(text: string, name: string): string {
  const reference = parseRegistryReference(text);
  if (reference.digest === null) return formatRegistryReference(reference);
  throw new UsageError(
    "bad-value",
    `"${name}" has a digest; images in such an archive have names only: "path:name:tag"`,
  );
}

/** The config's file name is mostly its digest; where it is, it must be true. */
async function readConfig(archive: ArchiveFile, path: string): Promise<Uint8Array> {
  const bytes = await archive.read(findMember(archive, path), MAX_DOCUMENT_BYTES);
  const [hex] = /(?<![0-9a-f])[0-9a-f]{64}(?=(?:\.json)?$)/.exec(path) ?? [];
  const digest = computeDigest(bytes);
  if (hex === undefined || digest === `sha256:${hex}`) return bytes;
  throw new IntegrityError(
    "digest-mismatch",
    `Config "${path}" in "${archive.path}" is corrupt: its bytes have digest ${digest}; copy the archive again`,
    { digest: `sha256:${hex}`, found: digest },
  );
}

function findMember(archive: ArchiveFile, path: string): ArchiveMember {
  const member = archive.find(path);
  if (member !== null) return member;
  throw new IntegrityError(
    "missing-object",
    `"${path}", which "${MANIFEST_FILE}" names, is missing from the archive "${archive.path}"; copy it again`,
    { path },
  );
}

/** Size of a layer's tar: a compressed one is read once more for that. */
async function measureTar(
  archive: ArchiveFile,
  member: ArchiveMember,
  signal: AbortSignal,
): Promise<number> {
  if (!(await archive.isCompressed(member))) return member.sizeBytes;
  const what = `Layer "${member.name}" of "${archive.path}"`;
  const limitBytes = limitTarBytes(member.sizeBytes);
  const tar = decompress(archive.open(member), what, { limitBytes });
  let sizeBytes = 0;
  for await (const chunk of abortable(tar, signal)) sizeBytes += chunk.length;
  return sizeBytes;
}
