// A registry of our own that does what it is told: good answers from images in memory, and for chosen
// paths whatever a test wants, once, several times or always. Every request is kept, with its headers.
//
// Also good for polite tests: challenges, redirects, mirrors.

import type { IncomingMessage, ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { type Answer, type LoopbackServer, listenOnLoopback } from "./loopback-server.ts";
import type { ServerCertificate } from "./registry-certificates.ts";

export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
export const OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";

export interface MemoryDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface KeptRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
}

export interface HostileRegistry extends LoopbackServer {
  readonly requests: readonly KeptRequest[];
  /** Stores a blob or document; a document also under the tags. */
  put(bytes: Uint8Array, mediaType: string, ...tags: readonly string[]): MemoryDescriptor;
  /** A whole image with these layers (tars, stored as they are) under the tags. */
  putImage(layers: readonly Uint8Array[], ...tags: readonly string[]): MemoryImage;
  /** Requests whose path matches get these answers one after the other; the last one stays. */
  misbehave(path: RegExp, ...answers: readonly Misbehaviour[]): void;
}

/** `good`: what a good registry would do. */
export type Misbehaviour = (
  request: IncomingMessage,
  response: ServerResponse,
  good: Answer,
) => unknown;

export interface MemoryImage {
  readonly manifest: MemoryDescriptor;
  readonly config: MemoryDescriptor;
  readonly layers: readonly MemoryDescriptor[];
}

interface Stored {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
}

export async function startHostileRegistry(tls?: ServerCertificate): Promise<HostileRegistry> {
  const stored = new Map<string, Stored>();
  const requests: KeptRequest[] = [];
  const rules: { path: RegExp; answers: Misbehaviour[] }[] = [];
  const good: Answer = (request, response) => answerWell(stored, request, response);
  const server = await listenOnLoopback((request, response) => {
    const { method = "", url = "", headers } = request;
    requests.push({ method, path: url, headers });
    const rule = rules.findLast(({ path }) => path.test(url));
    if (rule === undefined) return good(request, response);
    const answer = rule.answers.length > 1 ? rule.answers.shift()! : rule.answers[0]!;
    return answer(request, response, good);
  }, tls);
  const put = (bytes: Uint8Array, mediaType: string, ...tags: readonly string[]) => {
    const digest = computeDigest(bytes);
    for (const name of [digest, ...tags]) stored.set(name, { bytes, mediaType });
    return { mediaType, digest, size: bytes.length };
  };
  return {
    ...server,
    requests,
    put,
    putImage: (layers, ...tags) => putImage(put, layers, tags),
    misbehave(path, ...answers) {
      rules.push({ path, answers: [...answers] });
    },
  };
}

function putImage(
  put: HostileRegistry["put"],
  tars: readonly Uint8Array[],
  tags: readonly string[],
): MemoryImage {
  const layers = tars.map((tar) => put(tar, OCI_LAYER));
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const config = put(
    json({
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: layers.map(({ digest }) => digest) },
    }),
    OCI_CONFIG,
  );
  const document = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers };
  return { manifest: put(json(document), OCI_MANIFEST, ...tags), config, layers };
}

function answerWell(
  stored: ReadonlyMap<string, Stored>,
  { url = "", headers }: IncomingMessage,
  response: ServerResponse,
): void {
  const [, kind, name] = /\/(manifests|blobs)\/([^/?]+)$/.exec(url) ?? [];
  const found = stored.get(decodeURIComponent(name ?? ""));
  if (found === undefined) {
    const code = kind === "manifests" ? "MANIFEST_UNKNOWN" : "BLOB_UNKNOWN";
    response.writeHead(404, { "content-type": "application/json" });
    response.end(JSON.stringify({ errors: [{ code, message: "not here" }] }));
    return;
  }
  const { bytes, mediaType } = found;
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? [];
  const common = {
    "content-type": kind === "manifests" ? mediaType : "application/octet-stream",
    "docker-content-digest": computeDigest(bytes),
  };
  if (first === undefined) {
    response.writeHead(200, { ...common, "content-length": bytes.length }).end(bytes);
    return;
  }
  const start = Number(first);
  const end = Math.min(last ? Number(last) + 1 : bytes.length, bytes.length);
  const contentRange = `bytes ${start}-${end - 1}/${bytes.length}`;
  const length = { "content-length": end - start, "content-range": contentRange };
  response.writeHead(206, { ...common, ...length }).end(bytes.subarray(start, end));
}

/** A status and nothing else that matters. */
export function status(
  code: number,
  headers: Readonly<Record<string, string | readonly string[]>> = {},
  body: string | Uint8Array = "",
): Misbehaviour {
  return (_request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    response.statusCode = code;
    response.end(body);
  };
}

export const redirect = (location: string, code = 307): Misbehaviour => status(code, { location });

/** The good answer with other headers. */
export function withHeaders(headers: Readonly<Record<string, string>>): Misbehaviour {
  return (request, response, good) => {
    const writeHead = response.writeHead.bind(response);
    // The good answer gives its headers with the status.
    response.writeHead = ((code: number, own: object) =>
      writeHead(code, { ...own, ...headers })) as typeof response.writeHead;
    return good(request, response);
  };
}

/** Announces `announced` bytes, sends `bytes` and closes the connection. */
export function cut(bytes: Uint8Array, announced: number): Misbehaviour {
  return (_request, response) => {
    response.writeHead(200, { "content-length": announced });
    response.write(bytes, () => response.destroy());
  };
}

/** `chunk` for ever. */
export function endless(headers: Readonly<Record<string, string>>, chunk: Buffer): Misbehaviour {
  return (_request, response) => {
    response.writeHead(200, headers);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on("drain", more);
    more();
  };
}

/** Headers, then a byte of `bytes` every `intervalMs`. */
export function drip(bytes: Uint8Array, intervalMs: number): Misbehaviour {
  return (_request, response) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.flushHeaders();
    let at = 0;
    const timer = setInterval(() => {
      response.write(bytes.subarray(at, ++at));
      if (at === bytes.length) clearInterval(timer);
    }, intervalMs);
    response.on("close", () => clearInterval(timer));
  };
}

/** Never answers. */
export const silence: Misbehaviour = () => {};

/** These bytes on the connection instead of a response. */
export function raw(text: string): Misbehaviour {
  return ({ socket }) => {
    socket.write(text);
    socket.end();
  };
}

/** One header line, letter by letter and never done. */
export function dripHeaders(intervalMs: number): Misbehaviour {
  return ({ socket }) => {
    socket.write("HTTP/1.1 200 OK\r\nx-slow: ");
    const timer = setInterval(() => socket.write("a"), intervalMs);
    socket.on("close", () => clearInterval(timer));
  };
}

/** The good body, really encoded. */
export const gzipEncoded = (bytes: Uint8Array): Misbehaviour =>
  status(200, { "content-encoding": "gzip" }, gzipSync(bytes));

/** Lets in who shows one of `accepted`. */
export const guard =
  (challenge: string, accepted: (authorization: string) => boolean): Misbehaviour =>
  (request, response, good) => {
    if (accepted(request.headers.authorization ?? "")) return good(request, response);
    return status(401, { "www-authenticate": challenge })(request, response, good);
  };
