// The `registry` transport: an image in a registry, or in one of its mirrors.
//
// A tag is looked up once; everything after that goes by digest, so a tag that moves during a pull changes
// nothing. `name:tag@digest` means the digest. A layer whose connection breaks is continued where it
// stopped, as long as that gets it on.

import { FormatError, RegistryError, StateError } from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { isIndexType, isManifestType } from "../../shared/format/oci/media-type.ts";
import { openRegistryClient, type RegistryClient } from "../registry/client.ts";
import type { FetchedManifest } from "../registry/manifest-fetch.ts";
import type { RegistryReference } from "../registry/reference.ts";
import { isRetryable } from "../registry/retry.ts";
import { openSystemAccess, type RegistryAccess } from "../registry/system-access.ts";
import { openRegistryArtifacts } from "./artifact-source.ts";
import { type ByteSource, oneChunk, verifyBlob } from "./blob.ts";
import { openRegistrySignatures } from "./policy/registry-signatures.ts";
import { type ImageSource, resolveImage } from "./resolved-image.ts";

/** Connections in a row that broke and brought less than `PROGRESS_BYTES` each. */
const MAX_FRUITLESS = 5;
const PROGRESS_BYTES = 1 << 20;

/** `image`: "quay.io/x/y:tag", or a short name. Nothing is read, not even the configuration, before it is used. */
export function openRegistrySource(
  image: string,
  architecture: string,
  openAccess: () => RegistryAccess = openSystemAccess,
): ImageSource {
  const name = `docker://${image}`;
  const stop = new AbortController();
  const clients = openClients(image, openAccess);
  const withStop = (signal: AbortSignal | undefined) =>
    signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  return {
    name,
    async resolve(admit) {
      const { client, first } = await clients.fetchFirst(stop.signal);
      const { digest, mediaType, bytes } = first;
      return await resolveImage(
        { mediaType, digest, size: bytes.length },
        (document) =>
          document.digest === digest
            ? oneChunk(bytes)
            : readDocument(client, document, name, stop.signal),
        architecture,
        name,
        async (documents) => await admit?.(documents, client.reference),
      );
    },
    signatures: {
      readSignatures: (digest, wanted) =>
        openRegistrySignatures(clients.current()).readSignatures(digest, wanted),
    },
    artifacts: {
      readArtifacts: (digest, isWanted) =>
        openRegistryArtifacts(clients.current()).readArtifacts(digest, isWanted),
    },
    openLayer(layer) {
      const what = `Layer ${layer.digest} of "${name}"`;
      return verifyBlob(readWholeBlob(clients.current(), layer, stop.signal), layer, what);
    },
    openRange: (layer, range, signal) =>
      clients.current().openBlob(layer.digest, range, withStop(signal)),
    async [Symbol.asyncDispose]() {
      stop.abort(new StateError("interrupted", `Reading "${name}" was given up`));
      await clients[Symbol.asyncDispose]();
    },
  };
}

interface FoundImage {
  readonly client: RegistryClient;
  readonly first: FetchedManifest;
}

/** The clients of everything a short name may mean; usually one. */
function openClients(image: string, openAccess: () => RegistryAccess) {
  const opened = new Map<RegistryReference, RegistryClient>();
  let access: RegistryAccess | undefined;
  let meanings: readonly RegistryReference[] | undefined;
  let current: RegistryClient | undefined;
  const list = () => {
    access ??= openAccess();
    meanings ??= access.listMeanings(image);
    return meanings;
  };
  const open = (reference: RegistryReference): RegistryClient => {
    const client = opened.get(reference) ?? openRegistryClient(reference, access);
    opened.set(reference, client);
    return client;
  };
  return {
    /** Where the image was found, or would be looked for first. */
    current(): RegistryClient {
      const [first] = list();
      current ??= open(first!);
      return current;
    },
    async fetchFirst(signal: AbortSignal): Promise<FoundImage> {
      const failures: unknown[] = [];
      for (const reference of list()) {
        const { digest, tag } = reference;
        try {
          const client = open(reference);
          const target = digest === null ? { tag: tag ?? "latest" } : { digest };
          const first = await client.fetchManifest(target, signal);
          current = client;
          return { client, first };
        } catch (cause) {
          if (signal.aborted) throw signal.reason;
          failures.push(cause);
        }
      }
      throw failures.length === 1 ? failures[0] : nowhere(image, failures);
    },
    async [Symbol.asyncDispose]() {
      await Promise.allSettled([...opened.values()].map((each) => each[Symbol.asyncDispose]()));
    },
  };
}

function nowhere(image: string, failures: readonly unknown[]): RegistryError {
  const texts = failures.map((each) => (each instanceof Error ? each.message : String(each)));
  return new RegistryError(
    "not-found",
    `Image "${image}" is in none of the registries it may be in: ${texts.join("; ")}`,
    {},
    { cause: failures.at(-1) },
  );
}

/** A manifest an index points to, or a config. */
async function* readDocument(
  client: RegistryClient,
  descriptor: Descriptor,
  name: string,
  signal: AbortSignal,
): ByteSource {
  const { digest, mediaType } = descriptor;
  if (!isIndexType(mediaType) && !isManifestType(mediaType)) {
    yield* readWholeBlob(client, descriptor, signal);
    return;
  }
  const found = await client.fetchManifest({ digest }, signal);
  if (found.mediaType !== mediaType) {
    throw new FormatError(
      "bad-value",
      `Manifest ${digest} of "${name}" is a "${found.mediaType}", where its index says "${mediaType}"`,
    );
  }
  yield found.bytes;
}

/** All of a blob, unverified; more connections are made when one breaks. */
async function* readWholeBlob(
  client: RegistryClient,
  { digest, size }: Descriptor,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let startByte = 0;
  for (let fruitless = 0; ; ) {
    const before = startByte;
    try {
      const range = startByte === 0 ? { startByte, endByte: null } : { startByte, endByte: size };
      for await (const chunk of client.openBlob(digest, range, signal)) {
        startByte += chunk.length;
        yield chunk;
      }
      return;
    } catch (cause) {
      fruitless = startByte - before < PROGRESS_BYTES ? fruitless + 1 : 0;
      const isBroken = startByte > before && startByte < size;
      if (!isBroken || fruitless > MAX_FRUITLESS || !isRetryable(cause)) throw cause;
    }
  }
}
