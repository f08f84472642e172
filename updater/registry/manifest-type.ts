// Which kind of document a registry sent: its Content-Type and its own `mediaType` must not say two
// things, or two readers could see two images under one digest (CVE-2021-41190).

import { FormatError, UnsupportedError } from "../../shared/error.ts";
import {
  DOCKER_INDEX,
  DOCKER_MANIFEST,
  OCI_INDEX,
  OCI_MANIFEST,
} from "../../shared/format/oci/media-type.ts";

/** What is asked for. */
export const MANIFEST_TYPES: readonly string[] = [
  OCI_MANIFEST,
  DOCKER_MANIFEST,
  OCI_INDEX,
  DOCKER_INDEX,
];

/** What servers say that know nothing about the file. */
const GENERIC = /^(?:|application\/(?:json|octet-stream)|text\/plain|binary\/octet-stream)$/;

/**
 * The media type of the document in `bytes`. FormatError when header and document disagree or neither
 * says, UnsupportedError for Docker's schema 1. Which fields the document has is checked by its reader.
 */
export function settleMediaType(
  contentType: string | null,
  bytes: Uint8Array,
  host: string,
): string {
  const stated = (contentType ?? "").split(";")[0]!.trim().toLowerCase();
  const own = readOwnType(bytes, host);
  if (/^application\/vnd\.docker\.distribution\.manifest\.v1\+/.test(stated)) {
    throw new UnsupportedError(
      "feature",
      `"${host}" has this image only in Docker's old schema 1, which is not supported; push it again with a current program`,
    );
  }
  if (GENERIC.test(stated)) {
    if (own.mediaType !== null) return own.mediaType;
    if (own.isIndex !== own.isManifest) {
      return MANIFEST_TYPES[own.isIndex ? 2 : 0]!;
    }
    throw new FormatError("bad-value", `"${host}" sent a document that does not say what it is`);
  }
  if (own.mediaType !== null && own.mediaType !== stated) {
    throw new FormatError(
      "bad-value",
      `"${host}" sent a document as "${stated}" that calls itself "${own.mediaType}"`,
    );
  }
  return stated;
}

function readOwnType(
  bytes: Uint8Array,
  host: string,
): { readonly mediaType: string | null; readonly isIndex: boolean; readonly isManifest: boolean } {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FormatError("bad-value", `"${host}" sent a document that is not JSON`, {}, { cause });
  }
  if (typeof value !== "object" || value === null) {
    return { mediaType: null, isIndex: false, isManifest: false };
  }
  const { mediaType } = value as { mediaType?: unknown };
  return {
    mediaType: typeof mediaType === "string" ? mediaType : null,
    isIndex: "manifests" in value,
    isManifest: "layers" in value,
  };
}
