// A registry with one image, from an OCI layout, on a loopback port, that misbehaves on request: a body that
// breaks off or stalls at a chosen byte, no ranges, other bytes than were asked for, refusals.

import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { listenOnLoopback } from "./loopback-server.ts";
import { blobFile } from "./oci-builder.ts";

/** How one request for (a part of) a blob is answered. */
export interface Behaviour {
  /** The connection is closed after this many bytes of the body. */
  readonly breakAfter?: number;
  /** Nothing more comes after this many bytes, but the connection stays. */
  readonly stallAfter?: number;
  /** As if there were no Range. */
  readonly ignoresRange?: boolean;
  /** Bytes from elsewhere in the blob, said to be the right ones. */
  readonly shiftBytes?: number;
  /** Every byte is another one. */
  readonly isCorrupt?: boolean;
  readonly status?: number;
  /** No answer at all. */
  readonly isSilent?: boolean;
  /** Bytes for each second, about. */
  readonly bytesPerSecond?: number;
}

export interface BlobRequest {
  readonly digest: string;
  readonly startByte: number;
  /** Requests for blobs before this one. */
  readonly index: number;
}

export interface RangeServer extends AsyncDisposable {
  /** "127.0.0.1:PORT" */
  readonly host: string;
  /** "127.0.0.1:PORT/image:1" */
  readonly reference: string;
  readonly requests: readonly BlobRequest[];
  /** Bytes of layers that were sent, as far as this side knows. */
  readonly sentBytes: number;
}

const CHUNK_BYTES = 64 * 1024;

/** `layout` holds one image, of the manifest `manifestDigest`. */
export async function serveLayout(
  layout: string,
  manifestDigest: string,
  behave: (request: BlobRequest) => Behaviour = () => ({}),
  onSent: (sentBytes: number) => void = () => {},
): Promise<RangeServer> {
  const requests: BlobRequest[] = [];
  const state = { sentBytes: 0 };
  const server = await listenOnLoopback(async (request, response) => {
    const url = request.url ?? "";
    const manifest = /^\/v2\/image\/manifests\/(.+)$/.exec(url);
    const blob = /^\/v2\/image\/blobs\/(sha256:[0-9a-f]{64})$/.exec(url);
    if (manifest !== null) {
      sendManifest(
        response,
        layout,
        manifest[1]!.startsWith("sha256:") ? manifest[1]! : manifestDigest,
      );
    } else if (blob !== null && existsSync(blobFile(layout, blob[1]!))) {
      const startByte = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      const asked = { digest: blob[1]!, startByte, index: requests.length };
      requests.push(asked);
      await sendBlob(request, response, blobFile(layout, asked.digest), behave(asked), (count) => {
        state.sentBytes += count;
        onSent(state.sentBytes);
      });
    } else {
      response.writeHead(url === "/v2/" ? 200 : 404).end();
    }
  });
  return {
    host: server.host,
    reference: `${server.host}/image:1`,
    requests,
    get sentBytes() {
      return state.sentBytes;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

function sendManifest(response: ServerResponse, layout: string, digest: string): void {
  const bytes = readFileSync(blobFile(layout, digest));
  const { mediaType } = JSON.parse(bytes.toString()) as { mediaType: string };
  const headers = { "content-type": mediaType, "docker-content-digest": digest };
  response.writeHead(200, { ...headers, "content-length": bytes.length }).end(bytes);
}

async function sendBlob(
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  behaviour: Behaviour,
  onSent: (count: number) => void,
): Promise<void> {
  if (behaviour.isSilent === true) return;
  if (behaviour.status !== undefined) {
    response.writeHead(behaviour.status).end();
    return;
  }
  const { size } = statSync(path);
  const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const isPart = match !== null && behaviour.ignoresRange !== true;
  const start = isPart ? Number(match[1]) : 0;
  const end = isPart && match[2] !== "" ? Math.min(Number(match[2]) + 1, size) : size;
  const length = { "content-length": end - start };
  if (isPart) {
    response.writeHead(206, { ...length, "content-range": `bytes ${start}-${end - 1}/${size}` });
  } else {
    response.writeHead(200, length);
  }
  const shift = isPart ? (behaviour.shiftBytes ?? 0) : 0;
  const stopAt =
    start + Math.min(behaviour.breakAfter ?? behaviour.stallAfter ?? size, end - start);
  const fd = openSync(path, "r");
  try {
    for (let position = start; position < stopAt; ) {
      const bytes = Buffer.alloc(Math.min(CHUNK_BYTES, stopAt - position));
      readSync(
        fd,
        bytes,
        0,
        bytes.length,
        shift === 0 ? position : (position + shift) % (size - bytes.length),
      );
      if (behaviour.isCorrupt === true) for (let i = 0; i < bytes.length; i++) bytes[i]! ^= 0xff;
      await writeChunk(response, bytes);
      onSent(bytes.length);
      position += bytes.length;
      const { bytesPerSecond } = behaviour;
      if (bytesPerSecond !== undefined) await Bun.sleep((bytes.length / bytesPerSecond) * 1000);
    }
  } finally {
    closeSync(fd);
  }
  if (behaviour.breakAfter !== undefined && stopAt < end) response.destroy();
  else if (behaviour.stallAfter === undefined || stopAt === end) response.end();
}

/** Resolves when the kernel has it, or the client is gone. */
async function writeChunk(response: ServerResponse, bytes: Buffer): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const gone = () => resolve();
  response.once("close", gone);
  response.write(bytes, gone);
  await promise;
  response.off("close", gone);
  if (response.destroyed) throw new Error("The client is gone");
}
