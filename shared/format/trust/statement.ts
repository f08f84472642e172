// Image statements: text that says which boot image may start, made to be signed (docs/signing.md; decision 0021).
//
// - One value has one spelling: fields in this order, LF, no other white space. Whatever does not come out
//   again byte for byte when it is formatted is refused, so nobody can sign one thing and show another.
// - The first line is the domain: a key that also signs other things signs nothing that begins so.
// - A document is the statement and 1 to 8 lines with signatures of it, 8 KiB at most.

import { fromHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import { parseBase64, SIGNATURE_BYTES } from "../ed25519/signature.ts";

export type StatementAlgorithm = "sha512-12" | "sha256-12";
export type StatementFormat = "erofs-v1" | "erofs-v2";

export interface ImageStatement {
  /** Lower-case hex of the boot image's fs-verity digest, which is the deployment's id. */
  readonly digest: string;
  readonly algorithm: StatementAlgorithm;
  readonly format: StatementFormat;
  /** The vendor's counter of images, 1 to 2^53-1: downgrades are told by it. */
  readonly version: number;
  /** From then on the image does not start any more: UTC, whole seconds, "2027-01-01T00:00:00Z". */
  readonly expires: string | null;
}

export interface StatementSignature {
  /** Of the key: hex SHA-256 of its 32 bytes. */
  readonly fingerprint: string;
  /** 64 bytes. */
  readonly signature: Uint8Array;
}

export interface SignedStatement {
  readonly statement: ImageStatement;
  /** The statement's text with its last LF: the bytes that are signed. */
  readonly text: string;
  readonly signatures: readonly StatementSignature[];
}

export const MAX_DOCUMENT_BYTES = 8192;
export const MAX_SIGNATURES = 8;

const DOMAIN = "bootc-ts image statement";
const FIRST_LINE = `${DOMAIN} 1`;
const HEX_DIGITS: Readonly<Record<StatementAlgorithm, number>> = {
  "sha512-12": 128,
  "sha256-12": 64,
};
const FORMATS: readonly string[] = ["erofs-v1", "erofs-v2"];
const FINGERPRINT = /^[0-9a-f]{64}$/;

/** The bytes that are signed. FormatError when a value cannot be a statement's. */
export function formatStatement(statement: ImageStatement): string {
  checkStatement(statement, "a statement");
  const { digest, algorithm, format, version, expires } = statement;
  const lines = [
    FIRST_LINE,
    `digest: ${digest}`,
    `algorithm: ${algorithm}`,
    `format: ${format}`,
    `version: ${version}`,
    ...(expires === null ? [] : [`expires: ${expires}`]),
  ];
  return `${lines.join("\n")}\n`;
}

/** FormatError unless `bytes` is exactly a document with at least one signature; none is checked here. */
export function parseSignedStatement(bytes: Uint8Array, source: string): SignedStatement {
  if (bytes.length > MAX_DOCUMENT_BYTES) {
    throw malformed(source, `it is larger than ${MAX_DOCUMENT_BYTES} bytes`, "limit");
  }
  const whole = Buffer.from(bytes).toString("latin1");
  const lines = whole.split("\n");
  checkFirstLine(lines[0]!, source);
  const next = { index: 1 };
  const statement: ImageStatement = {
    digest: takeField(lines, next, "digest", source),
    algorithm: takeField(lines, next, "algorithm", source) as StatementAlgorithm,
    format: takeField(lines, next, "format", source) as StatementFormat,
    version: parseVersion(takeField(lines, next, "version", source), source),
    expires: takeOptional(lines, next, "expires"),
  };
  checkStatement(statement, source);
  const signatures: StatementSignature[] = [];
  for (let value = takeOptional(lines, next, "signature"); value !== null; ) {
    signatures.push(parseSignature(value, source));
    value = takeOptional(lines, next, "signature");
  }
  checkEnd(lines, next.index, source);
  checkSignatures(signatures, source);
  const text = formatStatement(statement);
  if (text + signatures.map(formatSignature).join("") === whole) {
    return { statement, text, signatures };
  }
  throw malformed(source, "it is spelt in another way than it has to be");
}

/** FormatError when there are no signatures, too many, or two by one key. */
export function formatSignedStatement(
  statement: ImageStatement,
  signatures: readonly StatementSignature[],
): string {
  checkSignatures(signatures, "a statement");
  return formatStatement(statement) + signatures.map(formatSignature).join("");
}

function checkFirstLine(line: string, source: string): void {
  if (line === FIRST_LINE) return;
  if (!line.startsWith(`${DOMAIN} `)) {
    throw malformed(source, `it begins with ${quote(line)}, not "${FIRST_LINE}"`, "bad-magic");
  }
  const version = quote(line.slice(DOMAIN.length + 1));
  throw malformed(source, `version ${version} of statements is not known here`, "unsupported");
}

/** `index`: of the first line that no field took; after the last LF comes nothing. */
function checkEnd(lines: readonly string[], index: number, source: string): void {
  const line = lines[index];
  if (line === undefined) throw malformed(source, "its last line has no end", "truncated");
  if (line === "" && index === lines.length - 1) return;
  const problem = `line ${index + 1} does not belong there: ${quote(line)}`;
  throw malformed(source, problem, "trailing");
}

function takeField(
  lines: readonly string[],
  next: { index: number },
  name: string,
  source: string,
): string {
  const value = takeOptional(lines, next, name);
  if (value !== null) return value;
  const line = quote(lines[next.index] ?? "");
  throw malformed(source, `line ${next.index + 1} has to be "${name}: ...", not ${line}`);
}

function takeOptional(
  lines: readonly string[],
  next: { index: number },
  name: string,
): string | null {
  const line = lines[next.index];
  if (line === undefined || !line.startsWith(`${name}: `)) return null;
  next.index++;
  return line.slice(name.length + 2);
}

function parseVersion(text: string, source: string): number {
  if (/^[1-9][0-9]{0,15}$/.test(text)) return Number(text);
  throw malformed(source, `version ${quote(text)} is not a number from 1 to 2^53-1`);
}

function parseSignature(value: string, source: string): StatementSignature {
  const [fingerprint = "", base64 = "", ...rest] = value.split(" ");
  const signature = rest.length > 0 ? null : parseBase64(base64, SIGNATURE_BYTES);
  if (signature !== null && FINGERPRINT.test(fingerprint)) return { fingerprint, signature };
  throw malformed(source, `${quote(value)} is not a fingerprint and 64 bytes in base64`);
}

function formatSignature({ fingerprint, signature }: StatementSignature): string {
  return `signature: ${fingerprint} ${Buffer.from(signature).toString("base64")}\n`;
}

function checkStatement(statement: ImageStatement, source: string): void {
  const { digest, algorithm, format, version, expires } = statement;
  if (!Object.hasOwn(HEX_DIGITS, algorithm)) {
    throw malformed(source, `algorithm ${quote(algorithm)} is not known`);
  }
  if (digest.length !== HEX_DIGITS[algorithm] || !isHex(digest)) {
    throw malformed(source, `${quote(digest)} is not a digest of ${algorithm} in lower-case hex`);
  }
  if (!FORMATS.includes(format)) throw malformed(source, `format ${quote(format)} is not known`);
  if (!Number.isSafeInteger(version) || version < 1) {
    throw malformed(source, `version ${version} is not a number from 1 to 2^53-1`);
  }
  if (expires !== null && !isTime(expires)) {
    throw malformed(source, `${quote(expires)} is not a time like 2027-01-01T00:00:00Z`);
  }
}

function checkSignatures(signatures: readonly StatementSignature[], source: string): void {
  if (signatures.length === 0) throw malformed(source, "it has no signature");
  if (signatures.length > MAX_SIGNATURES) {
    throw malformed(source, `it has more than ${MAX_SIGNATURES} signatures`, "limit");
  }
  const wrong = signatures.find(
    ({ fingerprint, signature }) =>
      !FINGERPRINT.test(fingerprint) || signature.length !== SIGNATURE_BYTES,
  );
  if (wrong !== undefined) {
    throw malformed(source, `${quote(wrong.fingerprint)} has no signature of 64 bytes`);
  }
  const fingerprints = new Set(signatures.map(({ fingerprint }) => fingerprint));
  if (fingerprints.size < signatures.length) {
    throw malformed(source, "it has two signatures by the same key");
  }
}

function isHex(text: string): boolean {
  try {
    return fromHex(text).length > 0;
  } catch {
    return false;
  }
}

/** A point in time in the only spelling that is accepted; no 30 February, no leap second. */
function isTime(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text)) return false;
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.toISOString() === `${text.slice(0, -1)}.000Z`;
}

/** Foreign text in a message: short, and ASCII that no terminal acts upon. */
function quote(text: string): string {
  const short = text.length > 80 ? `${text.slice(0, 80)}...` : text;
  return JSON.stringify(short).replace(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function malformed(
  source: string,
  problem: string,
  code: FormatError["code"] = "bad-value",
): FormatError {
  return new FormatError(code, `Image statement "${source}": ${problem}`, {
    format: "image-statement",
  });
}
