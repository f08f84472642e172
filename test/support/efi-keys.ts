// Keys for EFI programs, as openssl makes them, and the lists of them that db and dbx hold. What is signed is not the
// program's hash: for firmware sbsign is needed (test/vm/secure-boot.ts), for readers of signatures this is enough.

import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const X509 = "a159c0a5e494a74a87b5ab155c2bf072";
const SHA256 = "2616c4c14c509240aca941f936934328";
const DIRECTORY_AT = 128 + 24 + 112 + 4 * 8;

/** One list with one entry of `type` (a GUID as it is stored, in hex). */
export function formatSignatureList(data: Uint8Array, type = X509): Buffer {
  const list = Buffer.alloc(28 + 16 + data.length);
  list.write(type, 0, "hex");
  list.writeUInt32LE(list.length, 16);
  list.writeUInt32LE(16 + data.length, 24);
  list.set(data, 44);
  return list;
}

/** The hash of some program. */
export const HASH_LIST = formatSignatureList(Buffer.alloc(32, 7), SHA256);

export interface EfiSigner {
  /** DER. */
  readonly certificate: Uint8Array;
  /** PKCS #7 SignedData of something. */
  readonly sign: () => Buffer;
}

/** `issuer`: the name of another one in this directory; absent: it signs itself. */
export function makeEfiSigner(
  directory: string,
  name: string,
  subject = `/CN=${name}/`,
  issuer?: string,
): EfiSigner {
  const openssl = (args: readonly string[], input = "") =>
    execFileSync("openssl", args, { cwd: directory, input, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const files = ["-subj", subject, "-keyout", `${name}.key`, "-out", `${name}.crt`];
  const by = issuer === undefined ? [] : ["-CA", `${issuer}.crt`, "-CAkey", `${issuer}.key`];
  openssl(["req", "-x509", "-days", "9", "-sha256", ...key, ...files, ...by]);
  const signer = ["-signer", `${name}.crt`, "-inkey", `${name}.key`];
  return {
    certificate: new X509Certificate(readFileSync(join(directory, `${name}.crt`))).raw,
    sign: () => openssl(["cms", "-sign", "-outform", "DER", "-nodetach", ...signer], "a hash"),
  };
}

/** A table of signatures (WIN_CERTIFICATE), each filled up to 8 bytes. */
export function formatSignatureTable(signatures: readonly Uint8Array[]): Buffer {
  const records = signatures.map((signature) => {
    const record = Buffer.alloc(8 + signature.length + (-signature.length & 7));
    record.writeUInt32LE(8 + signature.length, 0);
    record.writeUInt16LE(0x200, 4);
    record.writeUInt16LE(2, 6);
    record.set(signature, 8);
    return record;
  });
  return Buffer.concat(records);
}

/** A kernel of `buildUki` with these signatures. */
export function attachSignatures(
  program: Uint8Array,
  ...signatures: readonly Uint8Array[]
): Buffer {
  const table = formatSignatureTable(signatures);
  const signed = Buffer.concat([program, table]);
  signed.writeUInt32LE(program.length, DIRECTORY_AT);
  signed.writeUInt32LE(table.length, DIRECTORY_AT + 4);
  return signed;
}
