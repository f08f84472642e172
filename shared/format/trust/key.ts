// Public keys that a machine trusts: files of /usr/lib/bootc/trust/keys.d, in PEM or as lines of base64.
//
// Only Ed25519. A file that holds anything else is an error, because it is trusted and wrong; so are keys
// of small order, for which anybody can make signatures.

import { toHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import { loadCrypto, parseBase64Key, parseDerKey } from "../ed25519/signature.ts";

export interface TrustKey {
  /** The file's name. */
  readonly name: string;
  /** 32 bytes. */
  readonly bytes: Uint8Array;
  /** Hex SHA-256 of the 32 bytes. */
  readonly fingerprint: string;
}

const MAX_TEXT = 64 * 1024;
const PEM = /-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]*)-----END PUBLIC KEY-----/g;

/**
 * The points of small order in every spelling, without the sign bit (RFC 8032 5.1.3 allows only some of
 * them): 0, 1, two of order 8, p-1, p, p+1.
 */
const SMALL_ORDER: ReadonlySet<string> = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]);

/** The keys of one file, of which there is at least one. FormatError. */
export function parseTrustKeys(text: string, name: string): readonly TrustKey[] {
  if (text.length > MAX_TEXT) throw badKey(name, "it is larger than 64 KiB");
  const keys = text.includes("-----") ? parsePem(text, name) : parseLines(text, name);
  if (keys.length === 0) throw badKey(name, "there is no key in it");
  return keys.map((bytes) => makeTrustKey(bytes, name));
}

/** Whether somebody means it for a key, public or private, of whatever kind. */
export function holdsKey(text: string): boolean {
  if (/-----BEGIN [A-Z0-9 ]*(?:PUBLIC|PRIVATE) KEY-----/.test(text)) return true;
  const lines = text.split("\n").map((line) => line.trim());
  return lines.some((line) => line !== "" && parseBase64Key(line) !== null);
}

/** `bytes`: the 32 of a public key. FormatError when signatures of it prove nothing. */
export function makeTrustKey(bytes: Uint8Array, name: string): TrustKey {
  const unsigned = Uint8Array.from(bytes);
  unsigned[31]! &= 0x7f;
  if (SMALL_ORDER.has(toHex(unsigned))) {
    throw badKey(name, "it is a key for which anybody can make signatures");
  }
  const fingerprint = loadCrypto().createHash("sha256").update(bytes).digest("hex");
  return { name, bytes, fingerprint };
}

/** A key in messages: enough of the fingerprint to tell it, and its name. */
export function describeKey({ name, fingerprint }: Omit<TrustKey, "bytes">): string {
  return `${fingerprint.slice(0, 16)} ("${name}")`;
}

function parsePem(text: string, name: string): readonly Uint8Array[] {
  if (text.includes("PRIVATE KEY")) throw badKey(name, "it holds a private key");
  if (text.replaceAll(PEM, "").trim() !== "") {
    throw badKey(name, 'there is more in it than blocks of "PUBLIC KEY" in PEM');
  }
  return [...text.matchAll(PEM)].map(([, body]) => {
    const key = parseDerKey(Buffer.from(body!.replaceAll(/\s/g, ""), "base64"));
    if (key !== null) return key;
    throw badKey(name, "it holds another public key than one of Ed25519");
  });
}

function parseLines(text: string, name: string): readonly Uint8Array[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const key = parseBase64Key(line);
      if (key !== null) return key;
      throw badKey(name, "it is neither PEM nor lines with an Ed25519 key of 32 bytes in base64");
    });
}

function badKey(name: string, problem: string): FormatError {
  return new FormatError("bad-value", `Cannot read the public key "${name}": ${problem}`, {
    format: "trust-key",
  });
}
