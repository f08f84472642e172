// Private keys that sign image statements (decision 0021): a PEM file, or a key in a PKCS#11 token.
//
// - Files are read and nothing else: a key is never written, and never given to another program.
// - Every signature is checked with the public half before it is used, whoever made it.

import { createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { FormatError, IntegrityError, StateError } from "../../shared/error.ts";
import { isSignedBy, parseDerKey, SIGNATURE_BYTES } from "../../shared/format/ed25519/signature.ts";
import {
  describeKey,
  makeTrustKey,
  parseTrustKeys,
  type TrustKey,
} from "../../shared/format/trust/key.ts";
import type { StatementSignature } from "../../shared/format/trust/statement.ts";
import { isTokenUri, openTokenKey } from "./token-key.ts";

export interface SigningKey {
  readonly key: TrustKey;
  /** 64 bytes. */
  readonly sign: (message: Uint8Array) => Uint8Array;
  /** What whoever signs should know about the key. */
  readonly warnings: readonly string[];
}

const OTHERS = 0o077;

/** `name`: a path, or a URI "pkcs11:…" (RFC 7512). FormatError, StateError when it cannot be used. */
export function openSigningKey(name: string): SigningKey {
  return isTokenUri(name) ? openTokenKey(name) : openKeyFile(name);
}

/** The statement's signature by this key. IntegrityError when it is none, e.g. by a token gone wrong. */
export function signStatement({ key, sign: make }: SigningKey, text: string): StatementSignature {
  const message = Buffer.from(text);
  const signature = make(message);
  if (!isSignedBy(key.bytes, message, signature)) {
    throw new IntegrityError(
      "digest-mismatch",
      `Key ${describeKey(key)} made a signature that does not verify; see that it is an Ed25519 key, and that private and public half belong together`,
    );
  }
  return { fingerprint: key.fingerprint, signature };
}

/** A signature that was made elsewhere: a file with its 64 bytes, and one with the public key. */
export function readForeignSignature(
  signaturePath: string,
  publicKeyPath: string,
  text: string,
): { readonly key: TrustKey; readonly signature: StatementSignature } {
  const keys = readPublicKeys(publicKeyPath);
  const [key] = keys;
  if (keys.length > 1) {
    throw new FormatError("bad-value", `"${publicKeyPath}" has several public keys; give one`);
  }
  const signature = readRaw(signaturePath);
  if (!isSignedBy(key!.bytes, Buffer.from(text), signature)) {
    throw new IntegrityError(
      "digest-mismatch",
      `"${signaturePath}" is no signature of this statement by key ${describeKey(key!)}; sign exactly the bytes that --unsigned prints, with the same image, --version and --expires`,
    );
  }
  return { key: key!, signature: { fingerprint: key!.fingerprint, signature } };
}

/** FormatError, StateError when the file has no keys or other ones. */
export function readPublicKeys(path: string): readonly TrustKey[] {
  return parseTrustKeys(readText(path, "public key"), basename(path));
}

function openKeyFile(path: string): SigningKey {
  const privateKey = parsePrivateKey(readText(path, "private key"), path);
  const der = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  const key = makeTrustKey(parseDerKey(der)!, basename(path));
  return { key, sign: (message) => sign(null, message, privateKey), warnings: warnAbout(path) };
}

function parsePrivateKey(text: string, path: string): KeyObject {
  if (text.includes("ENCRYPTED")) {
    throw badKey(
      path,
      'is encrypted; keep it in a token (--key pkcs11:…), or decrypt it for this with "openssl pkey"',
    );
  }
  if (!text.includes("PRIVATE KEY")) {
    const found = text.includes("PUBLIC KEY") ? "is a public key" : "is no private key in PEM";
    throw badKey(path, `${found}; make one with "openssl genpkey -algorithm ed25519"`);
  }
  if ((text.match(/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/g) ?? []).length > 1) {
    throw badKey(path, "has several private keys in it; give each in a file of its own");
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    // The library's reason is a list of function names.
    throw badKey(path, "is damaged, or not PKCS #8 in PEM");
  }
  const type = key.asymmetricKeyType ?? "unknown";
  if (type === "ed25519") return key;
  throw badKey(
    path,
    `is a key of type ${type}; make one with "openssl genpkey -algorithm ed25519"`,
  );
}

function warnAbout(path: string): readonly string[] {
  const status = statSync(path);
  if (!status.isFile() || (status.mode & OTHERS) === 0) return [];
  return [`Others than its owner may read the key "${path}"; "chmod 600" it`];
}

function readRaw(path: string): Uint8Array {
  const bytes = readInput(path, "signature");
  if (bytes.length === SIGNATURE_BYTES) return bytes;
  throw new FormatError(
    "bad-value",
    `"${path}" has ${bytes.length} bytes; an Ed25519 signature is ${SIGNATURE_BYTES} raw bytes ("openssl pkeyutl -sign -rawin")`,
  );
}

function readText(path: string, what: string): string {
  return readInput(path, what).toString("latin1");
}

function readInput(path: string, what: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new StateError("missing", `Cannot read the ${what} "${path}"`, { path }, { cause });
  }
}

function badKey(path: string, problem: string): FormatError {
  return new FormatError("bad-value", `The key "${path}" ${problem}`, { path });
}
