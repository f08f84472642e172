// Signatures of an image in containers-storage: all of one manifest in one piece of big data, one after the
// other; their sizes are in the image's metadata.

import * as z from "zod";
import { FormatError } from "../../shared/error.ts";
import { splitDigest } from "../../shared/format/oci/digest.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import {
  type FoundSignature,
  MAX_SIGNATURE_BYTES,
  MAX_SIGNATURES,
  parseSignatureFile,
} from "./policy/signature-source.ts";
import { readBigData, type StoredImage } from "./storage-store.ts";

const sizes = z.array(z.int().nonnegative()).max(MAX_SIGNATURES).nullish();
const metadataSchema = z.looseObject({
  /** Of "signatures", which belong to the manifest that was asked for. */
  "signature-sizes": sizes,
  /** Of "signature-<hex>", by the manifest's digest. */
  "signatures-sizes": z.record(z.string(), sizes).nullish(),
});

/** Those of the manifest `digest`; `images` are all of the storage. FormatError when they are malformed. */
export function* readStoredSignatures(
  { image, images }: { readonly image: StoredImage; readonly images: readonly StoredImage[] },
  digest: string,
): Generator<FoundSignature> {
  for (const each of new Set([image, ...images])) {
    const what = `Image "${each.id}" in "${each.store.graphRoot}"`;
    const text = each.metadata || "{}";
    const metadata = parseJson(metadataSchema, Buffer.from(text), `Metadata of ${what}`);
    const own = metadata["signatures-sizes"]?.[digest];
    if (own) {
      yield* split(each, `signature-${splitDigest(digest).hex}`, own, what);
      return;
    }
    const shared = metadata["signature-sizes"];
    if (shared && each.digest === digest) {
      yield* split(each, "signatures", shared, what);
      return;
    }
  }
}

function* split(
  image: StoredImage,
  key: string,
  sizeList: readonly number[],
  what: string,
): Generator<FoundSignature> {
  const limitBytes = MAX_SIGNATURES * MAX_SIGNATURE_BYTES;
  const bytes = readBigData(image, key, limitBytes) ?? new Uint8Array(0);
  const totalBytes = sizeList.reduce((sum, size) => sum + size, 0);
  if (bytes.length !== totalBytes) {
    throw new FormatError(
      "bad-value",
      `${what} does not have the signatures that its metadata says`,
    );
  }
  let offset = 0;
  for (const [i, size] of sizeList.entries()) {
    const end = offset + size;
    const found = parseSignatureFile(bytes.subarray(offset, end), `${what}, signature ${i + 1}`);
    if (found !== null) yield found;
    offset = end;
  }
}
