// Fuzz target: the certificates in the signatures of an EFI program (WIN_CERTIFICATE, PKCS #7, DER). What is found are
// parts of the input, and each is a whole element of DER.

import { parseSignatureCertificates } from "../../../shared/format/uki/certificates.ts";
import { type FuzzTarget, PropertyError } from "../target.ts";

const ALIGNMENT = 8;

function element(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const size =
    content.length < 0x80 ? [content.length] : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function makeRecord(...certificates: readonly Uint8Array[]): Buffer {
  const signed = [element(0x02, Buffer.of(1)), element(0x31), element(0x30)];
  const content = element(0x30, ...signed, element(0xa0, ...certificates), element(0x31));
  const pkcs7 = element(0x30, element(0x06, Buffer.of(42, 3)), element(0xa0, content));
  const header = Buffer.alloc(8);
  header.writeUInt32LE(header.length + pkcs7.length, 0);
  header.writeUInt16LE(0x0200, 4);
  header.writeUInt16LE(2, 6);
  const bytes = Buffer.concat([header, pkcs7]);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (ALIGNMENT - 1))]);
}

const certificate = (bytes: number) => element(0x30, Buffer.alloc(bytes, 7));

export const target: FuzzTarget = {
  focus: /^shared\/format\/uki\/certificates\.ts/,
  maxBytes: 4096,
  seeds: () => [
    makeRecord(certificate(20)),
    makeRecord(certificate(300), certificate(2)),
    Buffer.concat([makeRecord(certificate(5)), makeRecord(certificate(6))]),
  ],
  check(input) {
    for (const found of parseSignatureCertificates(input)) {
      const end = found.byteOffset + found.length;
      if (found.byteOffset < input.byteOffset || end > input.byteOffset + input.length) {
        throw new PropertyError("A certificate is not a part of the input");
      }
      if (found.length < 2 || found[0] !== 0x30) throw new PropertyError("It is no SEQUENCE");
    }
    return true;
  },
};
