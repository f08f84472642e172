// A deployed image's file tree, read back from its EROFS image in the repository: for its pristine
// /etc and its own kernel arguments. Nothing is mounted.

import { shortId } from "../../shared/bytes/hex.ts";
import { FormatError } from "../../shared/error.ts";
import { readErofs } from "../../shared/format/erofs/reader.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import { openImage } from "../../shared/store/images.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { readAll } from "../../shared/sys/file.ts";

const IMAGE_LIMIT_BYTES = 1 << 30;

/** IntegrityError when the image is not what its name says. */
export function readImageTree(repo: Repository, id: string): DirectoryNode {
  const { fd } = openImage(repo, id);
  try {
    return readErofs(readAll(fd, IMAGE_LIMIT_BYTES)).root;
  } finally {
    fd.close();
  }
}

/** The image's /etc, which every bootable image has. */
export function requireEtc(root: DirectoryNode, id: string): DirectoryNode {
  const etc = root.entries.get("etc");
  if (etc?.kind === "directory") return etc;
  throw new FormatError(
    "not-found",
    `Image has no directory "/etc" (deployment ${shortId(id)}); add it when building the image`,
    { format: "image", id },
  );
}
