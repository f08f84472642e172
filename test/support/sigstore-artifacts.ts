// Sigstore signatures put together by hand, as cosign would with a Fulcio and a Rekor at hand, and as an
// attacker would: each part can be another than it should. Pushed to a registry as plain documents.

import { createHash, createPublicKey, type KeyObject, sign, X509Certificate } from "node:crypto";
import type { KeyPair } from "./signing-keys.ts";

const SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";
const EMPTY = "application/vnd.oci.empty.v1+json";

const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64");
const sha256 = (bytes: Uint8Array | string) => createHash("sha256").update(bytes).digest();

/** Signs as cosign does: ECDSA and RSA over SHA-256. */
export function signBytes(bytes: Uint8Array, key: KeyObject): Buffer {
  return sign(key.asymmetricKeyType === "ed25519" ? null : "sha256", bytes, key);
}

export function makePayload(digest: string, name: string): Buffer {
  const critical = {
    identity: { "docker-reference": name },
    image: { "docker-manifest-digest": digest },
    type: "cosign container image signature",
  };
  return Buffer.from(JSON.stringify({ critical, optional: null }));
}

/** What a log entry says: signature, what was signed, PEM of key or certificate. */
export interface LogContent {
  readonly signature: Uint8Array;
  readonly signed: Uint8Array;
  readonly verifier: string;
  /** Unix seconds. */
  readonly time: number;
}

function makeEntryBody({ signature, signed, verifier }: LogContent): Buffer {
  return Buffer.from(
    JSON.stringify({
      apiVersion: "0.0.1",
      kind: "hashedrekord",
      spec: {
        data: { hash: { algorithm: "sha256", value: sha256(signed).toString("hex") } },
        signature: {
          content: base64(signature),
          publicKey: { content: base64(verifier) },
        },
      },
    }),
  );
}

function logId(log: KeyPair): Buffer {
  return sha256(log.publicKey.export({ type: "spki", format: "der" }));
}

function signEntry(log: KeyPair, body: Buffer, time: number, logIndex: number) {
  const payload = {
    body: base64(body),
    integratedTime: time,
    logID: logId(log).toString("hex"),
    logIndex,
  };
  const timestamp = sign("sha256", Buffer.from(JSON.stringify(payload)), log.privateKey);
  return { payload, timestamp };
}

/** cosign 2's annotation with the log entry. */
function makeRekorAnnotation(log: KeyPair, content: LogContent): string {
  const { payload, timestamp } = signEntry(log, makeEntryBody(content), content.time, 7);
  return JSON.stringify({ SignedEntryTimestamp: base64(timestamp), Payload: payload });
}

export interface Attachment {
  readonly payload: Uint8Array;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface AttachmentParts {
  readonly digest: string;
  readonly name: string;
  readonly key: KeyObject;
  readonly certificate?: string;
  readonly chain?: string;
  /** Log and Unix seconds. */
  readonly logged?: { readonly log: KeyPair; readonly time: number };
  /** What the log entry says instead of the truth. */
  readonly entry?: Partial<LogContent>;
}

export function makeAttachment(parts: AttachmentParts): Attachment {
  const payload = makePayload(parts.digest, parts.name);
  const signature = signBytes(payload, parts.key);
  const verifier = parts.certificate ?? publicPem(parts.key);
  const { logged } = parts;
  const annotations = {
    "dev.cosignproject.cosign/signature": base64(signature),
    ...(parts.certificate && { "dev.sigstore.cosign/certificate": parts.certificate }),
    ...(parts.chain && { "dev.sigstore.cosign/chain": parts.chain }),
    ...(logged && {
      "dev.sigstore.cosign/bundle": makeRekorAnnotation(logged.log, {
        ...{ signature, signed: payload, verifier, time: logged.time },
        ...parts.entry,
      }),
    }),
  };
  return { payload, annotations };
}

export interface BundleParts {
  readonly digest: string;
  readonly key: KeyObject;
  readonly certificate?: string;
  readonly logged?: { readonly log: KeyPair; readonly time: number };
  readonly entry?: Partial<LogContent>;
  readonly predicateType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A v0.3 bundle with a DSSE envelope; its log has this one entry. */
export function makeBundle(parts: BundleParts): object {
  const statement = Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [
        {
          digest: { sha256: parts.digest.slice("sha256:".length) },
          annotations: parts.annotations,
        },
      ],
      predicateType: parts.predicateType ?? "https://sigstore.dev/cosign/sign/v1",
      predicate: {},
    }),
  );
  const payloadType = "application/vnd.in-toto+json";
  const head = `DSSEv1 ${payloadType.length} ${payloadType} ${statement.length} `;
  const signed = Buffer.concat([Buffer.from(head), statement]);
  const signature = signBytes(signed, parts.key);
  const verifier = parts.certificate ?? publicPem(parts.key);
  const { logged } = parts;
  const content = { signature, signed, verifier, time: logged?.time ?? 0, ...parts.entry };
  return {
    mediaType: BUNDLE,
    verificationMaterial: {
      ...(parts.certificate
        ? { certificate: { rawBytes: base64(new X509Certificate(parts.certificate).raw) } }
        : { publicKey: { hint: "x" } }),
      ...(logged && { tlogEntries: [makeLogEntry(logged.log, content)] }),
    },
    dsseEnvelope: {
      payload: base64(statement),
      payloadType,
      signatures: [{ sig: base64(signature) }],
    },
  };
}

/** Entry 0 of a log that has no other: its leaf is the root of the tree (RFC 6962). */
function makeLogEntry(log: KeyPair, content: LogContent): object {
  const body = makeEntryBody(content);
  const { timestamp } = signEntry(log, body, content.time, 0);
  const rootHash = sha256(Buffer.concat([Buffer.from([0]), body]));
  const note = `log.example.com\n1\n${base64(rootHash)}\n`;
  const noteSignature = sign("sha256", Buffer.from(note), log.privateKey);
  const line = base64(Buffer.concat([logId(log).subarray(0, 4), noteSignature]));
  return {
    logIndex: "0",
    logId: { keyId: base64(logId(log)) },
    kindVersion: { kind: "hashedrekord", version: "0.0.1" },
    integratedTime: String(content.time),
    inclusionPromise: { signedEntryTimestamp: base64(timestamp) },
    inclusionProof: {
      logIndex: "0",
      rootHash: base64(rootHash),
      treeSize: "1",
      hashes: [],
      checkpoint: { envelope: `${note}\n\u2014 log.example.com ${line}\n` },
    },
    canonicalizedBody: base64(body),
  };
}

function publicPem(key: KeyObject): string {
  return createPublicKey(key).export({ type: "spki", format: "pem" }).toString();
}

/** `repository` with its registry: "127.0.0.1:5000/os". Returns the digest. */
export async function pushManifest(
  repository: string,
  name: string | null,
  manifest: object,
): Promise<string> {
  const bytes = Buffer.from(JSON.stringify(manifest));
  const digest = `sha256:${sha256(bytes).toString("hex")}`;
  const [host = "", path = ""] = splitHost(repository);
  const type = (manifest as { mediaType: string }).mediaType;
  const response = await fetch(`http://${host}/v2/${path}/manifests/${name ?? digest}`, {
    method: "PUT",
    headers: { "content-type": type },
    body: bytes,
  });
  if (!response.ok) throw new Error(`manifest: ${response.status} ${await response.text()}`);
  return digest;
}

export async function pushBlob(
  repository: string,
  mediaType: string,
  content: Uint8Array | object,
) {
  const bytes = content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
  const digest = `sha256:${sha256(bytes).toString("hex")}`;
  const [host = "", path = ""] = splitHost(repository);
  const start = await fetch(`http://${host}/v2/${path}/blobs/uploads/`, { method: "POST" });
  const place = new URL(start.headers.get("location") ?? "", `http://${host}`);
  place.searchParams.set("digest", digest);
  const response = await fetch(place, { method: "PUT", body: bytes });
  if (!response.ok) throw new Error(`blob: ${response.status} ${await response.text()}`);
  return { mediaType, digest, size: bytes.length };
}

function splitHost(repository: string): [string, string] {
  const slash = repository.indexOf("/");
  return [repository.slice(0, slash), repository.slice(slash + 1)];
}

/** As cosign 2 stores signatures. */
export async function pushAttachments(
  repository: string,
  digest: string,
  attachments: readonly Attachment[],
): Promise<void> {
  const config = await pushBlob(repository, "application/vnd.oci.image.config.v1+json", {});
  const layers = [];
  for (const { payload, annotations } of attachments) {
    layers.push({ ...(await pushBlob(repository, SIMPLE_SIGNING, payload)), annotations });
  }
  await pushManifest(repository, `${digest.replace(":", "-")}.sig`, {
    ...{ schemaVersion: 2, mediaType: MANIFEST, config, layers },
  });
}

/** As cosign 3 stores signatures where the registry has no referrers API. */
export async function pushBundles(
  repository: string,
  digest: string,
  bundles: readonly object[],
): Promise<void> {
  const config = await pushBlob(repository, EMPTY, {});
  const manifests = [];
  for (const bundle of bundles) {
    const layer = await pushBlob(repository, BUNDLE, bundle);
    const manifest = {
      ...{ schemaVersion: 2, mediaType: MANIFEST, artifactType: BUNDLE, config, layers: [layer] },
      subject: { mediaType: MANIFEST, digest, size: 1 },
    };
    const own = await pushManifest(repository, null, manifest);
    const size = Buffer.byteLength(JSON.stringify(manifest));
    // cosign writes the wrong type here (docker/buildx#4010).
    manifests.push({ mediaType: MANIFEST, digest: own, size, artifactType: EMPTY });
  }
  await pushManifest(repository, digest.replace(":", "-"), {
    ...{ schemaVersion: 2, mediaType: INDEX, manifests },
  });
}
