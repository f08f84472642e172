// The `docker-daemon:` transport: an image in the local Docker (or podman's service that speaks its API),
// "name:tag", "name@digest" or "sha256:<image id>".
//
// The daemon sends an image as a docker-archive (Engine API, GET /images/{name}/get), with the list of its
// layers at the end; so it is kept in a temporary file without a name until the source is disposed of.

import { type IncomingMessage, request } from "node:http";
import { raceAbort } from "../../shared/abortable.ts";
import { FormatError, StateError, UnsupportedError, UsageError } from "../../shared/error.ts";
import { digestSchema } from "../../shared/format/oci/digest.ts";
import { formatRegistryReference, parseRegistryReference } from "../registry/reference.ts";
import { keepArchive } from "./archive-file.ts";
import type { ByteSource } from "./blob.ts";
import { openDockerImage } from "./docker-archive.ts";
import type { ImageSource } from "./resolved-image.ts";

const DEFAULT_SOCKET = "/var/run/docker.sock";
/** Of silence: a daemon packs a layer before it sends the next byte. */
const TIMEOUT_MS = 300_000;
const MAX_MESSAGE_BYTES = 64 << 10;

/** `host` is $DOCKER_HOST. UsageError when `image` is no reference. */
export function openDockerDaemon(
  image: string,
  architecture: string,
  host: string | undefined = process.env["DOCKER_HOST"],
): ImageSource {
  const name = `docker-daemon:${image}`;
  const wanted = parseDaemonReference(image);
  // Asked for by name, the archive has this one image; it may be there under other names only.
  return openDockerImage(
    name,
    async (signal) => {
      const socketPath = findSocket(host);
      const response = await getImage(socketPath, wanted, name, signal);
      return await keepArchive(name, readBody(response, name), signal);
    },
    null,
    architecture,
  );
}

/** What the daemon calls the image. */
function parseDaemonReference(image: string): string {
  if (digestSchema.safeParse(image).success) return image;
  const reference = parseRegistryReference(image);
  const { tag, digest } = reference;
  if (tag !== null && digest !== null) {
    throw new UsageError(
      "conflict",
      `"docker-daemon:${image}" has a tag and a digest; give one of them`,
    );
  }
  const isBare = digest === null && !image.slice(image.lastIndexOf("/") + 1).includes(":");
  if (isBare) {
    throw new UsageError(
      "missing",
      `"docker-daemon:${image}" has neither a tag nor a digest; write e.g. "docker-daemon:${image}:latest"`,
    );
  }
  return formatRegistryReference(reference);
}

/** UnsupportedError for daemons that are not on this machine. */
function findSocket(host: string | undefined): string {
  if (host === undefined || host === "") return DEFAULT_SOCKET;
  const [, path] = /^unix:\/\/(\/.*)$/s.exec(host) ?? [];
  if (path !== undefined) return path;
  throw new UnsupportedError(
    "transport",
    `$DOCKER_HOST is "${host}"; only "unix:///path" is supported. ` +
      'Save the image there with "docker save -o FILE NAME" and use transport "docker-archive"',
  );
}

async function getImage(
  socketPath: string,
  image: string,
  name: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  // The reference has no characters that mean something in a path.
  const response = await raceAbort(send(socketPath, `/images/${image}/get`, name), signal);
  const status = response.statusCode ?? 0;
  if (status === 200) return response;
  const message = await readMessage(response);
  if (status === 404) {
    throw new FormatError("not-found", `Docker has no image "${image}": ${message}`);
  }
  throw new StateError(
    "command-failed",
    `Docker did not give the image "${image}" (status ${status}): ${message}`,
  );
}

function send(socketPath: string, path: string, name: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { host: "docker", connection: "close" };
    const sent = request({ socketPath, path, headers, timeout: TIMEOUT_MS }, resolve);
    sent.on("timeout", () => sent.destroy(new Error(`no answer for ${TIMEOUT_MS / 1000} s`)));
    sent.on("error", (cause) => reject(unreachable(socketPath, name, cause)));
    sent.end();
  });
}

function unreachable(socketPath: string, name: string, cause: Error): StateError {
  return new StateError(
    "missing",
    `Cannot read "${name}": Docker does not answer on "${socketPath}"; is it running? ` +
      "$DOCKER_HOST names another socket",
    { path: socketPath },
    { cause },
  );
}

/** IncomingMessage is one, with errors that say nothing. */
async function* readBody(response: IncomingMessage, name: string): ByteSource {
  try {
    for await (const chunk of response) yield chunk as Uint8Array;
  } catch (cause) {
    throw new StateError("interrupted", `Docker broke off while it sent "${name}"`, {}, { cause });
  }
}

/** The daemon's own words: {"message": "…"}. */
async function readMessage(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response) {
    text += String(chunk);
    if (text.length > MAX_MESSAGE_BYTES) break;
  }
  const [, message] = /"message"\s*:\s*"((?:[^"\\]|\\.)*)"/.exec(text) ?? [];
  return (message ?? text).slice(0, 1000).trim();
}
