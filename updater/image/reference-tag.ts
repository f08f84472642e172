// The same image under another tag: `bootc upgrade --tag` (bootc.md 1.5, with_tag).
//
// The tag is replaced and a digest is dropped; the rest stays as it was written. What is no name of a registry's
// image, such as a path, gets the tag in place of what follows its last colon.

import { UsageError } from "../../shared/error.ts";
import { parseRegistryReference } from "../registry/reference.ts";
import type { ImageReference } from "./reference.ts";

const TAG = /^\w[\w.-]{0,127}$/;

/** UsageError when `tag` is no tag, or the transport's images have none. */
export function withTag(reference: ImageReference, tag: string): ImageReference {
  if (!TAG.test(tag)) throw new UsageError("bad-value", `"${tag}" is not a tag`);
  if (reference.transport === "dir") {
    throw new UsageError(
      "bad-value",
      `Images of "dir:", such as "${reference.image}", have no tags`,
    );
  }
  const image = reference.image.replace(/@sha(?:256|512):[0-9a-f]+$/, "");
  const from = isImageName(image) ? image.lastIndexOf("/") + 1 : 0;
  const colon = image.lastIndexOf(":");
  const name = colon < from ? image : image.slice(0, colon);
  return { ...reference, image: `${name}:${tag}` };
}

function isImageName(text: string): boolean {
  try {
    parseRegistryReference(text);
    return true;
  } catch {
    return false;
  }
}
