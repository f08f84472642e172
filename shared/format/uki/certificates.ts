// The certificates in the Secure Boot signatures of an EFI program: WIN_CERTIFICATE records (Microsoft "PE Format", "The
// Attribute Certificate Table") with PKCS #7 SignedData (RFC 2315 9.1) in them, of which nothing else is read.
//
// They say who claims to have signed, which is not checked here: good for seeing that somebody certainly did not.

import { FormatError } from "../../error.ts";

const RECORD_HEADER_BYTES = 8;
const PKCS_SIGNED_DATA = 2;
const ALIGNMENT = 8;

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const OBJECT_IDENTIFIER = 0x06;
/** [0] of a SEQUENCE: the content of a ContentInfo, the certificates of SignedData. */
const CONTEXT_0 = 0xa0;

interface Element {
  readonly tag: number;
  /** With its header, and without. */
  readonly whole: Uint8Array;
  readonly content: Uint8Array;
}

/** In DER, of all signatures in the table. FormatError when there is none, or one is malformed. */
export function parseSignatureCertificates(table: Uint8Array): readonly Uint8Array[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const found: Uint8Array[] = [];
  for (let offset = 0; offset < table.length; ) {
    if (offset + RECORD_HEADER_BYTES > table.length) throw malformed("is cut short");
    const sizeBytes = view.getUint32(offset, true);
    const end = offset + sizeBytes;
    if (sizeBytes <= RECORD_HEADER_BYTES || end > table.length) throw malformed("is cut short");
    if (view.getUint16(offset + 6, true) !== PKCS_SIGNED_DATA) throw malformed("is no PKCS #7");
    found.push(...readCertificates(table.subarray(offset + RECORD_HEADER_BYTES, end)));
    offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
  }
  if (found.length === 0) throw malformed("has no certificate");
  return found;
}

function readCertificates(pkcs7: Uint8Array): readonly Uint8Array[] {
  const outer = expectTag(readElement(pkcs7), SEQUENCE);
  const type = expectTag(readElement(outer.content), OBJECT_IDENTIFIER);
  const wrapped = expectTag(readElement(after(outer.content, type)), CONTEXT_0);
  let rest = expectTag(readElement(wrapped.content), SEQUENCE).content;
  for (const tag of [INTEGER, SET, SEQUENCE]) rest = after(rest, expectTag(readElement(rest), tag));
  return listElements(expectTag(readElement(rest), CONTEXT_0).content);
}

function listElements(bytes: Uint8Array): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let rest = bytes; rest.length > 0; ) {
    const element = readElement(rest);
    if (element.tag === SEQUENCE) found.push(element.whole);
    rest = after(rest, element);
  }
  return found;
}

function after(bytes: Uint8Array, { whole }: Element): Uint8Array {
  return bytes.subarray(whole.length);
}

/** The first element; DER, with lengths of at most four bytes. */
function readElement(bytes: Uint8Array): Element {
  const [tag = 0, first = 0] = bytes;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  const headerBytes = 2 + lengthBytes;
  if (bytes.length < headerBytes || lengthBytes > 4 || first === 0x80) {
    throw malformed("is malformed");
  }
  const digits = bytes.subarray(2, headerBytes);
  const sizeBytes = lengthBytes === 0 ? first : digits.reduce((sum, byte) => sum * 256 + byte, 0);
  const end = headerBytes + sizeBytes;
  if (end > bytes.length) throw malformed("is cut short");
  return { tag, whole: bytes.subarray(0, end), content: bytes.subarray(headerBytes, end) };
}

function expectTag(element: Element, tag: number): Element {
  if (element.tag === tag) return element;
  throw malformed("is malformed");
}

function malformed(problem: string): FormatError {
  return new FormatError("bad-value", `The Secure Boot signature ${problem}`, { format: "pkcs7" });
}
