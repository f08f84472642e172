// The tree of an image in the container storage of this machine, or of the machine whose storage a container
// was given (bootc.md 10.5).

import { existsSync } from "node:fs";
import { StateError } from "../../shared/error.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { readRootTree } from "../image/boot-image.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import { pullResolvedImage } from "../image/pull.ts";
import { makeImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { openScratchRepository } from "./scratch-repository.ts";

/** Where builds get the storage of their host. */
const HOST_STORAGE = "/run/host-container-storage";
const CONTAINER_FILE = "/run/.containerenv";
const MAX_TEXT_BYTES = 65_536;

/** The tree that boots. `image` null: the one of the container that this process is in. */
export async function computeStoredTree(
  image: string | null,
  signal: AbortSignal,
): Promise<DirectoryNode> {
  const name = image ?? readOwnImage();
  const place = existsSync(HOST_STORAGE) ? `[${HOST_STORAGE}]` : "";
  const reference = makeImageReference("containers-storage", `${place}${name}`);
  await using source = openSource(reference);
  using scratch = openScratchRepository();
  const { resolved } = await resolveAdmitted(source, reference);
  const pulled = await pullResolvedImage(scratch.repo, source, resolved, { signal });
  return await readRootTree(scratch.repo, pulled.config.rootfs.diff_ids, { bootable: true });
}

function readOwnImage(): string {
  const text = readSmallText(CONTAINER_FILE, MAX_TEXT_BYTES) ?? "";
  const id = /^imageid="?([0-9a-f]{64})"?$/m.exec(text)?.[1];
  if (id !== undefined) return id;
  throw new StateError(
    "missing",
    `This is no container of podman whose image is known ("${CONTAINER_FILE}" does not say); name the image`,
  );
}
