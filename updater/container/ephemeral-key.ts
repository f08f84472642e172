// Keys that exist for one image: made here, used once, and never on a disk (docs/sealing.md).
//
// Of a key for image statements the public half goes into the unified kernel, twice: as a file of its initramfs,
// for prepare-root, and as the section .bkeys, for whoever looks at the image from outside.

import { writeCpio } from "../../shared/format/cpio/writer.ts";
import { loadCrypto, parseDerKey } from "../../shared/format/ed25519/signature.ts";
import { makeTrustKey } from "../../shared/format/trust/key.ts";
import { TRUST_DIRECTORY } from "../../shared/trust/anchors.ts";
import type { SigningKey } from "./signing-key.ts";

export const EPHEMERAL_KEY_PATH = `${TRUST_DIRECTORY}/keys.d/ephemeral.pub`;

export interface EphemeralKey extends SigningKey {
  /** PEM, of the public half. */
  readonly publicKey: string;
}

export function createEphemeralKey(): EphemeralKey {
  const crypto = loadCrypto();
  const { privateKey, publicKey } = crypto.generateKeyPairSync("ed25519");
  const der = publicKey.export({ format: "der", type: "spki" });
  return {
    publicKey: publicKey.export({ format: "pem", type: "spki" }).toString(),
    key: makeTrustKey(parseDerKey(der)!, "ephemeral.pub"),
    sign: (message) => crypto.sign(null, message, privateKey),
    warnings: [],
  };
}

/** What is put behind the initramfs; not compressed, so every kernel takes it. */
export function makeKeyArchive(publicKey: string): Buffer {
  const content = Buffer.from(publicKey);
  const file = {
    path: EPHEMERAL_KEY_PATH,
    mode: 0o644,
    sizeBytes: content.length,
    content: [content],
  };
  return Buffer.concat([...writeCpio([file])]);
}
