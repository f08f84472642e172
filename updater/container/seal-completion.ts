// The second step of signing outside: programs that came back signed take the places of those that `bootc container
// seal --unsigned` gave out. They must be the same but for their signatures, and everything else stays as it is.

import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { IntegrityError, StateError } from "../../shared/error.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { openFileContent } from "../image/file-content.ts";
import { makeLeaf } from "../image/layer-tree.ts";
import { pullLayers } from "../image/pull.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { STATEMENT_ANNOTATION } from "../image/statement-source.ts";
import { readLayerEntries } from "../image/tree.ts";
import { copyLayers } from "./image-copy.ts";
import { addLayer, type SealPlace } from "./seal.ts";
import { KERNELS, type LayerMember } from "./seal-layer.ts";
import { endsWithSeal, withLayers, withoutLastLayer } from "./sealed-manifest.ts";
import { compareProgramFiles, hasSignature } from "./secure-boot.ts";

const PROGRAM_SUFFIX = ".efi";

/**
 * StateError when the image's last layer is none of ours, IntegrityError for a program that is not one of the image's,
 * or comes without a signature.
 */
export async function completeSeal(
  place: SealPlace,
  source: ImageSource,
  resolved: ResolvedImage,
  signedFiles: readonly string[],
): Promise<ResolvedImage> {
  if (!endsWithSeal(resolved)) {
    throw new StateError(
      "conflict",
      'The last layer of the image was not made by "bootc container seal": --signed-uki is for the image that --unsigned made',
    );
  }
  const { repo, signal, layout } = place;
  await pullLayers(repo, source, resolved, { signal });
  const members = await extractMembers(repo, resolved, join(place.directory, "unsigned"));
  const exchanged = exchangePrograms(members, signedFiles);
  const start = withoutLastLayer(resolved);
  const image = withLayers(start, await copyLayers(source, start, layout, signal));
  const statement = resolved.manifest.annotations?.[STATEMENT_ANNOTATION] ?? null;
  return await addLayer(place, image, exchanged, statement);
}

/** The layer's members with their contents in files. */
async function extractMembers(
  repo: Repository,
  { config }: ResolvedImage,
  directory: string,
): Promise<readonly LayerMember[]> {
  mkdirSync(directory);
  const members: LayerMember[] = [];
  await readLayerEntries(repo, config.rootfs.diff_ids.at(-1)!, (entry, content) => {
    const leaf = entry.type === "file" && entry.sizeBytes > 0 ? makeLeaf(entry, content) : null;
    if (leaf?.kind !== "file") {
      members.push({ entry, file: null });
      return;
    }
    const file = join(directory, String(members.length));
    writeChunksAtomic(null, file, openFileContent(repo, leaf), { mode: 0o600, sync: false });
    members.push({ entry, file });
  });
  return members;
}

function exchangePrograms(
  members: readonly LayerMember[],
  signedFiles: readonly string[],
): readonly LayerMember[] {
  const result = [...members];
  for (const signed of signedFiles) {
    if (!hasSignature(signed)) {
      throw new IntegrityError("digest-mismatch", `"${signed}" has no signature; sign it first`);
    }
    const at = members.findIndex(
      ({ entry, file }) =>
        file !== null &&
        entry.path.endsWith(PROGRAM_SUFFIX) &&
        compareProgramFiles(file, signed) === null,
    );
    if (at < 0) throw describeStranger(members, signed);
    const sizeBytes = statSync(signed).size;
    result[at] = { entry: { ...members[at]!.entry, sizeBytes }, file: signed };
  }
  return result;
}

function describeStranger(members: readonly LayerMember[], signed: string): IntegrityError {
  const kernel = members.find(
    ({ entry, file }) => file !== null && isKernel(fromByteString(entry.path)),
  );
  const offset = kernel?.file == null ? null : compareProgramFiles(kernel.file, signed);
  const where =
    offset === null ? "" : `; from the kernel it differs at byte ${offset}, apart from signatures`;
  return new IntegrityError(
    "digest-mismatch",
    `"${signed}" is none of the programs of this image${where}: sign the file that --unsigned-uki-out wrote, unchanged`,
  );
}

function isKernel(path: string): boolean {
  return (
    path.startsWith(`${KERNELS}/`) && path.endsWith(PROGRAM_SUFFIX) && path.split("/").length === 4
  );
}
