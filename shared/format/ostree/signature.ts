// Ed25519 signatures of commits (ostree.md 1.4, 4.5): a list of 64 bytes each in the detached metadata,
// key `ostree.sign.ed25519`, over the exact bytes of the commit object. One good pair of key and signature is enough.

import { FormatError } from "../../error.ts";
import { isSignedBy, parseBase64Key } from "../ed25519/signature.ts";
import { type Dictionary, decodeDictionary, lookup } from "../gvariant/dictionary.ts";

const ED25519_SIGNATURES = "ostree.sign.ed25519";

/** Public keys, one in base64 a line; blank lines do not count. FormatError when there is none. */
export function parsePublicKeys(text: string, source: string): readonly Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "") continue;
    const key = parseBase64Key(line);
    if (key === null) {
      throw badKeys(source, `line ${index + 1} is not an Ed25519 key of 32 bytes in base64`);
    }
    keys.push(key);
  }
  if (keys.length === 0) throw badKeys(source, "there is no key in it");
  return keys;
}

/** The Ed25519 signatures in a commit's detached metadata; null when it has none at all. */
export function readSignatures(commitmeta: Uint8Array): readonly Uint8Array[] | null {
  return findSignatures(decodeDictionary(commitmeta));
}

export function findSignatures(detached: Dictionary): readonly Uint8Array[] | null {
  return lookup(detached, ED25519_SIGNATURES, "aay") as readonly Uint8Array[] | null;
}

/**
 * Whether one of the signatures of `signed` (a commit's exact bytes) is by one of the keys. Signatures and
 * keys of other lengths than Ed25519 has are nobody's.
 */
export function verifySignatures(
  signed: Uint8Array,
  signatures: readonly Uint8Array[],
  keys: readonly Uint8Array[],
): boolean {
  return keys.some((key) => signatures.some((signature) => isSignedBy(key, signed, signature)));
}

function badKeys(source: string, problem: string): FormatError {
  return new FormatError("bad-value", `Cannot read the public keys in "${source}": ${problem}`, {
    format: "ostree-keys",
  });
}
