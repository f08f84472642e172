// Signatures of a `dir:` image: files "signature-1", "signature-2", … beside its manifest. With several
// images in one directory theirs begin with the digest of each ("<hex>.signature-1").

import { isErrno } from "../../../shared/error.ts";
import { computeDigest, splitDigest } from "../../../shared/format/oci/digest.ts";
import { readFileBounded } from "./bounded-file.ts";
import {
  type FoundSignature,
  MAX_SIGNATURES,
  parseSignatureFile,
  type SignatureSource,
} from "./signature-source.ts";

export function openDirectorySignatures(directory: string): SignatureSource {
  return {
    async *readSignatures(digest): AsyncGenerator<FoundSignature> {
      const { algorithm, hex } = splitDigest(digest);
      const own = await readFileBounded(`${directory}/manifest.json`);
      const prefix = computeDigest(own, algorithm) === digest ? "" : `${hex}.`;
      yield* readNumbered((index) => `${directory}/${prefix}signature-${index}`);
    },
  };
}

/** Files counted from 1, up to the first that is not there. */
export async function* readNumbered(
  pathOf: (index: number) => string,
): AsyncGenerator<FoundSignature> {
  for (let index = 1; index <= MAX_SIGNATURES; index++) {
    const path = pathOf(index);
    let bytes: Uint8Array;
    try {
      bytes = await readFileBounded(path);
    } catch (error) {
      if (isErrno(error, "ENOENT", "ENOTDIR")) return;
      throw error;
    }
    const found = parseSignatureFile(bytes, path);
    if (found !== null) yield found;
  }
}
