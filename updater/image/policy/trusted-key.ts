// The keys and certificates that a policy names, read from its files or taken from the policy itself.
// A key that is missing or cannot be understood refuses the image: a policy with a hole is no policy.

import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import { PolicyError } from "../../../shared/error.ts";

/** Bytes with a name for people: a path, or e.g. "keyData". */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface TrustedKey {
  readonly name: string;
  readonly key: KeyObject;
  /** SHA-256 of its SubjectPublicKeyInfo, as Rekor names logs and cosign hints at keys. */
  readonly id: Uint8Array;
}

/** At most one of the four is given (requirement.ts). `field` is what the policy calls it. */
export interface BytesSource {
  readonly field: string;
  readonly path?: string | undefined;
  readonly paths?: readonly string[] | undefined;
  readonly data?: Uint8Array | undefined;
  readonly datas?: readonly Uint8Array[] | undefined;
}

export function loadBytes({ field, path, paths, data, datas }: BytesSource): readonly NamedBytes[] {
  const files = [...(path === undefined ? [] : [path]), ...(paths ?? [])];
  const inline = [...(data === undefined ? [] : [data]), ...(datas ?? [])];
  return [
    ...files.map((name) => ({ name, bytes: readKeyFile(name, field) })),
    ...inline.map((bytes) => ({ name: `${field} in the policy`, bytes })),
  ];
}

/** A public key in PEM: ECDSA, Ed25519 or RSA. */
export function parsePublicKey({ name, bytes }: NamedBytes): TrustedKey {
  const text = Buffer.from(bytes).toString("latin1");
  try {
    if (!/-----BEGIN (?:RSA )?PUBLIC KEY-----/.test(text))
      throw new Error("it is no PEM public key");
    const key = createPublicKey(text);
    if (!["ec", "ed25519", "rsa"].includes(key.asymmetricKeyType ?? "")) {
      throw new Error(`keys of type ${key.asymmetricKeyType} are not supported`);
    }
    const spki = key.export({ type: "spki", format: "der" });
    return { name, key, id: createHash("sha256").update(spki).digest() };
  } catch (cause) {
    throw new PolicyError(
      "untrusted-key",
      `Key "${name}" cannot be used`,
      { path: name },
      { cause },
    );
  }
}

function readKeyFile(path: string, field: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new PolicyError(
      "untrusted-key",
      `Key "${path}" (${field}) is missing or cannot be read`,
      { path },
      { cause },
    );
  }
}
