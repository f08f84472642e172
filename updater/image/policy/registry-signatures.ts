// Signatures of images in registries: in the look-aside store that registries.d names (simple signing), and in
// the registry itself (cosign's tag, bundles that refer to the image).

import { splitDigest } from "../../../shared/format/oci/digest.ts";
import type { RegistryClient } from "../../registry/client.ts";
import { hostConfigPlace } from "../../registry/config-place.ts";
import { fetchSmallFile } from "../../registry/small-file.ts";
import { openRegistryArtifacts, orNull, registryLayerReader } from "../artifact-source.ts";
import { readNumbered } from "./directory-signatures.ts";
import { chooseStores, type RegistriesD, readRegistriesD } from "./registries-d.ts";
import { dockerScopes, nameOfRegistryReference } from "./scopes.ts";
import { attachmentTag, mayBeBundle, readSignatureManifest } from "./signature-manifest.ts";
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
  const where = `${client.reference.host}/${client.reference.repository}:${tag}`;
  yield* readSignatureManifest(manifest.bytes, where, registryLayerReader(client));
}

async function* readBundles(
  client: RegistryClient,
  digest: string,
): AsyncGenerator<FoundSignature> {
  const artifacts = openRegistryArtifacts(client).readArtifacts(digest, mayBeBundle);
  for await (const { manifestBytes, where, readLayer } of artifacts) {
    yield* readSignatureManifest(manifestBytes, where, readLayer);
  }
}
