// The plain EROFS image of a pulled image, for those that need not boot; boot-image.ts makes both.

import { publishImage } from "../../shared/store/images.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { buildImage } from "./boot-image.ts";
import { IMAGE_REF_PREFIX, publishImageStreams } from "./image-streams.ts";
import type { PulledImage } from "./pull.ts";

/** Makes it and records it in the image's streams; returns its digest. FormatError without /usr. */
export async function makePlainImage(repo: Repository, pulled: PulledImage): Promise<string> {
  const version = repo.erofsVersion;
  const image = await buildImage(repo, pulled.config.rootfs.diff_ids, { bootable: false, version });
  const digest = publishImage(repo, image);
  const name = `${IMAGE_REF_PREFIX}${version === 2 ? "" : ".v1"}`;
  await publishImageStreams(repo, pulled, new Map([[name, digest]]));
  return digest;
}
