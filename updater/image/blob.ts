// Blobs: bytes promised by a descriptor. Checked for size and digest while they pass.

import { IntegrityError } from "../../shared/error.ts";
import { createDigestHash } from "../../shared/format/oci/digest.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { countGarbage } from "./buffer-garbage.ts";

export type ByteSource = AsyncIterable<Uint8Array>;

/**
 * Passes `chunks` on and throws IntegrityError before the end when they are not what `promise`
 * says; so a consumer must not act on the bytes before the end. Size null: it is not known. `what` names the
 * blob in messages.
 */
export async function* verifyBlob(
  chunks: ByteSource,
  promise: { readonly digest: string; readonly size: number | null },
  what: string,
): AsyncGenerator<Uint8Array> {
  const { digest, size } = promise;
  const hash = createDigestHash(digest);
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    sizeBytes += chunk.length;
    if (size !== null && sizeBytes > size)
      throw sizeMismatch(what, `has more than the expected ${size} bytes`, digest);
    hash.update(chunk);
    yield chunk;
    countGarbage(chunk.length);
  }
  if (size !== null && sizeBytes < size) {
    throw sizeMismatch(what, `is cut short: ${sizeBytes} of ${size} bytes`, digest);
  }
  const found = `${digest.slice(0, digest.indexOf(":"))}:${hash.digest("hex")}`;
  if (found !== digest) {
    throw new IntegrityError(
      "digest-mismatch",
      `${what} is corrupt: its bytes have digest ${found}; copy or fetch the image again`,
      {
        digest,
        found,
      },
    );
  }
}

/** A small blob that is in memory already. */
export async function* oneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** All of a small blob, checked. `size` of the descriptor is bounded by the caller. */
export async function readBlob(
  chunks: ByteSource,
  descriptor: Descriptor,
  what: string,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of verifyBlob(chunks, descriptor, what)) parts.push(chunk);
  return Buffer.concat(parts);
}

function sizeMismatch(what: string, problem: string, digest: string): IntegrityError {
  return new IntegrityError("size-mismatch", `${what} ${problem}`, { digest });
}
