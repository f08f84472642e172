// OCI image layouts (image spec 1.1, "image-layout"): the marker file, index.json and tags.

import * as z from "zod";
import { FormatError } from "../../error.ts";
import { splitDigest } from "./digest.ts";
import { parseJson } from "./json.ts";
import type { Descriptor, ImageIndex } from "./manifest.ts";

export const LAYOUT_FILE = "oci-layout";
const TAG_ANNOTATION = "org.opencontainers.image.ref.name";

const layoutSchema = z.looseObject({ imageLayoutVersion: z.string().regex(/^1\./) });

export function checkLayoutFile(bytes: Uint8Array, what: string): void {
  parseJson(layoutSchema, bytes, what);
}

/** Path of a blob below the layout; `digest` is checked. */
export function blobPath(digest: string): string {
  const { algorithm, hex } = splitDigest(digest);
  return `blobs/${algorithm}/${hex}`;
}

/** The manifest with this tag; without a tag there must be exactly one. `what` names the layout. */
export function selectTag(index: ImageIndex, tag: string | null, what: string): Descriptor {
  const tags = index.manifests.flatMap(({ annotations }) => annotations?.[TAG_ANNOTATION] ?? []);
  const offered =
    tags.length === 0 ? "it has no tags" : `its tags are ${tags.map((t) => `"${t}"`).join(", ")}`;
  const matches =
    tag === null
      ? index.manifests
      : index.manifests.filter(({ annotations }) => annotations?.[TAG_ANNOTATION] === tag);
  const [first] = matches;
  if (first === undefined) {
    if (tag === null) throw new FormatError("not-found", `${what} has no images`);
    throw new FormatError("not-found", `${what} has no tag "${tag}"; ${offered}`);
  }
  if (matches.length > 1 && tag === null) {
    throw new FormatError(
      "not-found",
      `${what} has ${matches.length} images; choose one with ":tag" after the path (${offered})`,
    );
  }
  if (matches.some((other) => other.digest !== first.digest)) {
    throw new FormatError("bad-value", `${what} has the tag "${tag}" more than once`);
  }
  return first;
}
