// Signatures as they are found beside an image, in three kinds, and the file form in which they lie in
// look-aside stores and `dir:` images (containers-signature(5), signature-protocols.md).

import * as z from "zod";
import { parseStrictJson } from "./strict-json.ts";

/** Found, not verified. `where` is for messages: a URL, a path. */
export type FoundSignature =
  /** An OpenPGP message. */
  | { readonly kind: "simple"; readonly bytes: Uint8Array; readonly where: string }
  /** cosign 2: a payload, and in the annotations signature, certificate and log entry. */
  | {
      readonly kind: "attachment";
      readonly payload: Uint8Array;
      readonly annotations: Readonly<Record<string, string>>;
      readonly where: string;
    }
  /** cosign 3: a Sigstore bundle in JSON. */
  | { readonly kind: "bundle"; readonly json: Uint8Array; readonly where: string };

/** Which kinds a policy can use; what it cannot use is not fetched. */
export interface WantedKinds {
  readonly simple: boolean;
  readonly sigstore: boolean;
}

/** Where an image's signatures are. */
export interface SignatureSource {
  /** Of the manifest or index with this digest (checked), one after the other, as they are fetched. */
  readSignatures(digest: string, wanted: WantedKinds): AsyncIterable<FoundSignature>;
}

/** Beyond this many of one image none is looked at: an endless list must not keep a machine busy. */
export const MAX_SIGNATURES = 128;
export const MAX_SIGNATURE_BYTES = 4 << 20;
export const SIMPLE_SIGNING_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json";

const SIGSTORE_MARK = "\0sigstore-json\n";
const attachmentSchema = z.strictObject({
  mimeType: z.string(),
  payload: z.base64(),
  annotations: z.record(z.string(), z.string()).nullish(),
});

/** Null for kinds that nobody here understands. FormatError when it is malformed. */
export function parseSignatureFile(bytes: Uint8Array, where: string): FoundSignature | null {
  if ((bytes[0] ?? 0) >= 0x80) return { kind: "simple", bytes, where };
  const mark = Buffer.from(SIGSTORE_MARK);
  if (Buffer.compare(bytes.subarray(0, mark.length), mark) !== 0) return null;
  const json = bytes.subarray(mark.length);
  const file = parseStrictJson(attachmentSchema, json, `Signature "${where}"`);
  if (file.mimeType !== SIMPLE_SIGNING_TYPE) return null;
  const payload = new Uint8Array(Buffer.from(file.payload, "base64"));
  return { kind: "attachment", payload, annotations: file.annotations ?? {}, where };
}
