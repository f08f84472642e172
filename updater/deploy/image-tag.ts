// The repository tags of deployed images, as they lie below `streams/refs` (composefs-rs.md 2.1).
// image/boot-image.ts sets them; here they are listed and taken away again.

import { listRefs, removeRef, setRef } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { deploymentTag, tagRefName } from "../image/boot-image.ts";
import { manifestStreamName } from "../image/image-streams.ts";

const TAG_DIRECTORY = tagRefName("");

/** Whether the updater made this tag; others are never touched. */
export function isDeploymentTag(tag: string): boolean {
  return tag.startsWith(deploymentTag(""));
}

/** All tags, without the escapes of file names. */
export function listTags(repo: Repository): readonly string[] {
  return listTaggedManifests(repo).map(({ tag }) => tag);
}

/** All tags and the digests of their manifests. */
export function listTaggedManifests(
  repo: Repository,
): readonly { readonly tag: string; readonly manifestDigest: string }[] {
  return listRefs(repo, "streams")
    .filter(({ name }) => name.startsWith(TAG_DIRECTORY))
    .map(({ name, target }) => ({
      tag: name
        .slice(TAG_DIRECTORY.length)
        .replaceAll(/%(25|2F)/g, (_, code: string) => (code === "25" ? "%" : "/")),
      manifestDigest: target.replace(manifestStreamName(""), ""),
    }));
}

export function removeTag(repo: Repository, tag: string): void {
  removeRef(repo, "streams", tagRefName(tag));
}

/** Keeps the image as `name`, until somebody takes that tag away; an image kept under it before is let go. */
export function retainImage(repo: Repository, name: string, manifestDigest: string): void {
  setRef(repo, "streams", tagRefName(name), manifestStreamName(manifestDigest));
}
