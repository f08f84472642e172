// Image layouts (OCI image spec 1.1, "image-layout"), wherever their files lie: choosing an image and
// reading its documents. A directory (oci-directory.ts) and an archive (oci-archive.ts) give the files.

import { FormatError } from "../../shared/error.ts";
import { checkLayoutFile, LAYOUT_FILE, selectTag } from "../../shared/format/oci/layout.ts";
import {
  type Descriptor,
  type ImageIndex,
  parseImageIndex,
} from "../../shared/format/oci/manifest.ts";
import { selectPlatform } from "../../shared/format/oci/platform.ts";
import type { ByteSource } from "./blob.ts";
import type { ImageChoice } from "./path-reference.ts";
import { type AdmitImage, type ResolvedImage, resolveImage } from "./resolved-image.ts";

export interface LayoutFiles {
  /** "OCI directory "/x"", for messages. */
  readonly what: string;
  /** The marker file or index.json, at most MAX_DOCUMENT_BYTES. */
  readFile(name: string): Promise<Uint8Array>;
  /** Unchecked bytes of a blob; fails at once when its size is wrong, before anything is imported. */
  openBlob(descriptor: Descriptor): ByteSource;
}

/** `name` is the whole reference, for messages. */
export async function resolveLayout(
  files: LayoutFiles,
  choice: ImageChoice | null,
  architecture: string,
  name: string,
  admit?: AdmitImage,
): Promise<ResolvedImage> {
  const { what } = files;
  checkLayoutFile(await files.readFile(LAYOUT_FILE), `File "${LAYOUT_FILE}" of ${what}`);
  const indexBytes = await files.readFile("index.json");
  const index = parseImageIndex(indexBytes, `File "index.json" of ${what}`);
  const first = chooseImage(index, choice, architecture, what);
  return await resolveImage(first, (each) => files.openBlob(each), architecture, name, admit);
}

function chooseImage(
  index: ImageIndex,
  choice: ImageChoice | null,
  architecture: string,
  what: string,
): Descriptor {
  if (choice?.kind === "index") {
    const descriptor = index.manifests[choice.index];
    if (descriptor !== undefined) return descriptor;
    const count = index.manifests.length;
    const problem = `has no image "@${choice.index}"; it has ${count}, counted from 0`;
    throw new FormatError("not-found", `${what} ${problem}`);
  }
  const images = choice === null ? withoutArtifacts(index) : index;
  if (choice === null && isPlatformIndex(images)) return selectPlatform(images, architecture, what);
  return selectTag(images, choice?.name ?? null, what);
}

/** What refers to an image does not make it one of several. */
function withoutArtifacts(index: ImageIndex): ImageIndex {
  const images = index.manifests.filter(({ artifactType }) => artifactType === undefined);
  return images.length === 0 ? index : { ...index, manifests: images };
}

/** Some tools list the images of all platforms in index.json itself. */
function isPlatformIndex({ manifests }: ImageIndex): boolean {
  const names = manifests.flatMap(({ platform }) =>
    platform?.os === "unknown" ? [] : [platform && `${platform.os}/${platform.architecture}`],
  );
  const isEach = names.every((name) => name !== undefined);
  return manifests.length > 1 && isEach && new Set(names).size === names.length;
}
