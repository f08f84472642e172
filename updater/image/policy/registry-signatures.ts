// Signatures of images in registries: in the look-aside store that registries.d names (simple signing), and in
// the registry itself (cosign's tag, bundles that refer to the image).

import { RegistryError } from "../../../shared/error.ts";
import { splitDigest } from "../../../shared/format/oci/digest.ts";
import type { RegistryClient } from "../../registry/client.ts";
import { hostConfigPlace } from "../../registry/config-place.ts";
import { fetchSmallFile } from "../../registry/small-file.ts";
import { readBlob } from "../blob.ts";
import { readNumbered } from "./directory-signatures.ts";
import { chooseStores, type RegistriesD, readRegistriesD } from "./registries-d.ts";
import { dockerScopes, nameOfRegistryReference } from "./scopes.ts";
import {
  attachmentTag,
  MAX_REFERRERS,
  mayBeBundle,
  readSignatureManifest,
  type SignatureLayer,
} from "./signature-manifest.ts";
import {
  type FoundSignature,
  MAX_SIGNATURE_BYTES,
  MAX_SIGNATURES,
  parseSignatureFile,
  type SignatureSource,
} from "./signature-source.ts";

/** The configuration is read when signatures are asked for, not before. */
export function openRegistrySignatures(
  client: RegistryClient,
  readConfig: () => RegistriesD = () => readRegistriesD(hostConfigPlace()),
): SignatureSource {
  return {
    async *readSignatures(digest, wanted): AsyncGenerator<FoundSignature> {
      const named = nameOfRegistryReference(client.reference);
      const stores = chooseStores(readConfig(), dockerScopes(named));
      if (wanted.simple) yield* readLookaside(stores.lookaside, client, digest);
      if (wanted.sigstore && stores.attachments) {
        yield* readAttachments(client, digest);
        yield* readBundles(client, digest);
      }
      // Sigstore signatures may lie there as well; few do.
      if (!wanted.simple) yield* readLookaside(stores.lookaside, client, digest);
    },
  };
}

async function* readLookaside(
  base: string,
  { reference }: RegistryClient,
  digest: string,
): AsyncGenerator<FoundSignature> {
  const { algorithm, hex } = splitDigest(digest);
  const directory = `${base}/${reference.repository}@${algorithm}=${hex}`;
  if (base.startsWith("file://")) {
    const path = decodeURIComponent(new URL(directory).pathname);
    yield* readNumbered((index) => `${path}/signature-${index}`);
    return;
  }
  for (let index = 1; index <= MAX_SIGNATURES; index++) {
    const url = `${directory}/signature-${index}`;
    const bytes = await fetchSmallFile(new URL(url), MAX_SIGNATURE_BYTES);
    if (bytes === null) return;
    const found = parseSignatureFile(bytes, url);
    if (found !== null) yield found;
  }
}

async function* readAttachments(
  client: RegistryClient,
  digest: string,
): AsyncGenerator<FoundSignature> {
  const tag = attachmentTag(digest);
  const manifest = await orNull(client.fetchManifest({ tag }));
  if (manifest === null) return;
  yield* readSignatureManifest(manifest.bytes, describe(client, `:${tag}`), readLayer(client));
}

async function* readBundles(
  client: RegistryClient,
  digest: string,
): AsyncGenerator<FoundSignature> {
  const referrers = await client.fetchReferrers(digest);
  const candidates = referrers.filter((descriptor) => mayBeBundle(descriptor["artifactType"]));
  for (const { digest: own } of candidates.slice(0, MAX_REFERRERS)) {
    const manifest = await orNull(client.fetchManifest({ digest: own }));
    if (manifest === null) continue;
    yield* readSignatureManifest(manifest.bytes, describe(client, `@${own}`), readLayer(client));
  }
}

function readLayer(client: RegistryClient) {
  return async (layer: SignatureLayer): Promise<Uint8Array> => {
    const bytes = client.openBlob(layer.digest, { startByte: 0, endByte: layer.size });
    return await readBlob(bytes, layer, `Signature ${layer.digest}`);
  };
}

function describe({ reference }: RegistryClient, suffix: string): string {
  return `${reference.host}/${reference.repository}${suffix}`;
}

/** Nothing there is no failure: it only means no signature. */
async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RegistryError && error.code === "not-found") return null;
    throw error;
  }
}
