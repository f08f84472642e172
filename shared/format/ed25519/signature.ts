// Ed25519 (RFC 8032) public keys and signatures: 32 and 64 bytes, keys also as SubjectPublicKeyInfo (RFC 8410).
//
// node:crypto is loaded when something is checked and not before: loading it costs prepare-root more
// time than anything else it does, and most machines have nothing to check.

import { UnsupportedError } from "../../error.ts";

const KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;
/** DER of a SubjectPublicKeyInfo for Ed25519 (RFC 8410), up to the key's 32 bytes. */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/** Base64 of 32 bytes, in its one canonical spelling; null when it is anything else. */
export function parseBase64Key(text: string): Uint8Array | null {
  return parseBase64(text, KEY_BYTES);
}

/** Exactly `length` bytes in canonical base64; null when it is anything else. */
export function parseBase64(text: string, length: number): Uint8Array | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.length === length && bytes.toString("base64") === text ? bytes : null;
}

/** The 32 bytes of a DER SubjectPublicKeyInfo; null when it is no Ed25519 key. */
export function parseDerKey(der: Uint8Array): Uint8Array | null {
  if (der.length !== SPKI_PREFIX.length + KEY_BYTES) return null;
  const prefix = der.subarray(0, SPKI_PREFIX.length);
  return SPKI_PREFIX.equals(prefix) ? der.subarray(SPKI_PREFIX.length) : null;
}

/** Whether `signature` is one of `signed` by `key`. Other lengths than Ed25519 has are nobody's. */
export function isSignedBy(key: Uint8Array, signed: Uint8Array, signature: Uint8Array): boolean {
  if (key.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  const crypto = loadCrypto();
  const der = Buffer.concat([SPKI_PREFIX, key]);
  const publicKey = crypto.createPublicKey({ key: der, format: "der", type: "spki" });
  return crypto.verify(null, signed, publicKey, signature);
}

export function loadCrypto(): typeof import("node:crypto") {
  const crypto = process.getBuiltinModule("node:crypto");
  if (crypto !== undefined) return crypto;
  throw new UnsupportedError("feature", "Cannot check signatures: the runtime has no node:crypto");
}
