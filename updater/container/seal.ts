// `bootc container seal`: an image becomes one that starts only as it is. One layer is added, with a unified kernel made
// of the image's own kernel and initramfs, and without these two.
//
// Order: layers into the layout -> a repository for the time of the command -> plan -> kernel, signed -> layer, config,
// manifest -> the result is checked as `verify` checks it -> the layout names it. Whatever fails before the last leaves
// the layout as it was.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { pipeline, Readable } from "node:stream";
import { createGzip } from "node:zlib";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import {
  formatSignedStatement,
  formatStatement,
  type ImageStatement,
} from "../../shared/format/trust/statement.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { pullLayers } from "../image/pull.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { createEphemeralKey } from "./ephemeral-key.ts";
import { copyLayers, openLayoutImage } from "./image-copy.ts";
import type { LayoutWriter } from "./layout-writer.ts";
import { makeSealFiles } from "./seal-files.ts";
import { type LayerMember, makeMembers, writeMembers } from "./seal-layer.ts";
import type { SealChoices, SealPlan } from "./seal-plan.ts";
import { endsWithSeal, withLayers, withoutLastLayer, withSealLayer } from "./sealed-manifest.ts";
import type { SecureBootKey } from "./secure-boot.ts";
import { type SigningKey, signStatement } from "./signing-key.ts";

const LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip";

export interface StatementChoices {
  /** Null: a key for this image only. */
  readonly keys: readonly SigningKey[] | null;
  readonly version: number;
  readonly expires: string | null;
}

export interface SealRequest extends SealChoices {
  readonly addons: readonly string[];
  readonly sharedRuntime: boolean;
  /** Null: the programs stay unsigned. */
  readonly signer: SecureBootKey | null;
  /** Null in mode "sealed". */
  readonly statement: StatementChoices | null;
}

/** Where it happens. */
export interface SealPlace {
  readonly repo: Repository;
  /** For files. */
  readonly directory: string;
  readonly layout: LayoutWriter;
  readonly signal: AbortSignal;
}

/** The image as it is in the layout's blobs and the repository; without a seal on top when it is to be sealed anew. */
export async function fetchForSeal(
  place: SealPlace,
  source: ImageSource,
  resolved: ResolvedImage,
  options: { readonly reseal: boolean },
): Promise<ResolvedImage> {
  const start = options.reseal && endsWithSeal(resolved) ? withoutLastLayer(resolved) : resolved;
  const image = withLayers(start, await copyLayers(source, start, place.layout, place.signal));
  await pullInto(place, image);
  return image;
}

/** The image's layers from the layout into the repository. */
async function pullInto(place: SealPlace, image: ResolvedImage): Promise<void> {
  const { repo, layout, signal } = place;
  await pullLayers(repo, openLayoutImage(layout, image), image, { signal });
}

export interface SealedImage {
  readonly image: ResolvedImage;
  readonly plan: SealPlan;
  /** EFI programs that were made: the kernel, then the addon for all kernels. */
  readonly programs: readonly string[];
}

/** Makes everything and puts it into the layout, which does not name it yet. */
export async function makeSealedImage(
  place: SealPlace,
  image: ResolvedImage,
  request: SealRequest,
  plan: SealPlan,
): Promise<SealedImage> {
  const { repo } = place;
  const directory = join(place.directory, "seal");
  mkdirSync(directory);
  const keys = chooseKeys(request.statement);
  const files = await makeSealFiles({
    ...{ repo, plan, directory },
    request: { ...request, publicKey: keys.publicKey },
  });
  const members = makeMembers(plan.tree, {
    hidden: plan.hidden,
    files: files.files,
  });
  const statement =
    request.statement === null ? null : signDigest(plan, request.statement, keys.signers);
  const sealed = await addLayer(place, image, members, statement);
  return { image: sealed, plan, programs: files.programs };
}

function chooseKeys(statement: StatementChoices | null): {
  readonly signers: readonly SigningKey[];
  readonly publicKey: string | null;
} {
  if (statement === null) return { signers: [], publicKey: null };
  if (statement.keys !== null) return { signers: statement.keys, publicKey: null };
  const key = createEphemeralKey();
  return { signers: [key], publicKey: key.publicKey };
}

/** The document. */
function signDigest(
  { digest }: SealPlan,
  { version, expires }: StatementChoices,
  signers: readonly SigningKey[],
): string {
  const statement: ImageStatement = {
    ...{ digest, version, expires },
    algorithm: "sha512-12",
    format: "erofs-v1",
  };
  const text = formatStatement(statement);
  return formatSignedStatement(
    statement,
    signers.map((key) => signStatement(key, text)),
  );
}

/** The image with a layer of these members, in the layout and the repository. */
export async function addLayer(
  place: SealPlace,
  image: ResolvedImage,
  members: readonly LayerMember[],
  statement: string | null,
): Promise<ResolvedImage> {
  const layer = await putLayer(place, members);
  const sealed = withSealLayer(image, layer, statement);
  await pullInto(place, sealed);
  place.layout.putBytes(sealed.configBytes);
  place.layout.putBytes(sealed.manifestBytes);
  return sealed;
}

async function putLayer(
  { layout, signal }: SealPlace,
  members: readonly LayerMember[],
): Promise<Descriptor & { readonly diffId: string }> {
  const hasher = new Bun.CryptoHasher("sha256");
  function* tar() {
    for (const chunk of writeMembers(members)) {
      signal.throwIfAborted();
      hasher.update(chunk);
      if (chunk.length > 0) yield chunk;
    }
  }
  const compressed = createGzip({ level: 6 });
  // Not `pipe`, with which an interruption would leave the reader waiting for ever; who reads gets the error.
  pipeline(Readable.from(tar()), compressed, () => {});
  const blob = await layout.put(compressed);
  return { mediaType: LAYER_TYPE, ...blob, diffId: `sha256:${hasher.digest("hex")}` };
}
