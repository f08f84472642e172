// The kernel arguments that name the deployment to start (composefs-rs.md 5.1, bootc.md 4.9).
//
//   composefs=[?]<hex>                              64 or 128 digits; SHA-256 or SHA-512
//   composefs.digest=[?]v<1|2>-<algorithm>-12:<hex>
//
// "?" right after "=" makes fs-verity optional. Keys match exactly ("composefs_backup=" is another
// key). A malformed argument is an error and never ignored: the line decides what may start.

import { FormatError } from "../../error.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
import { type Parameter, parseCmdline } from "./cmdline.ts";

export interface ComposefsKarg {
  readonly key: "composefs" | "composefs.digest";
  /** Lower-case hex: the fs-verity digest of the EROFS image, which is the deployment's id. */
  readonly digest: string;
  readonly algorithm: VerityAlgorithm;
  /** A "?" was given: files without fs-verity are tolerated. */
  readonly optional: boolean;
  /** EROFS version, stated by `composefs.digest` only; mounting does not depend on it. */
  readonly version?: 1 | 2;
}

const HEX_DIGITS = { sha256: 64, sha512: 128 } as const;

/** In order of preference: every `composefs.digest`, then every `composefs`, each as they stand. */
export function parseComposefsKargs(cmdline: string): ComposefsKarg[] {
  const parameters = parseCmdline(cmdline);
  return [
    ...parameters.filter(({ key }) => key === "composefs.digest").map(parseDigest),
    ...parameters.filter(({ key }) => key === "composefs").map(parseShort),
  ];
}

function parseShort({ text, value }: Parameter): ComposefsKarg {
  const [optional, hex] = splitOptional(value);
  const algorithm = hex.length === HEX_DIGITS.sha256 ? "sha256" : "sha512";
  if (hex.length !== HEX_DIGITS[algorithm]) {
    throw malformed(text, `expected 64 or 128 hex digits, found ${hex.length} characters`);
  }
  return { key: "composefs", digest: checkHex(text, hex, algorithm), algorithm, optional };
}

function parseDigest({ text, value }: Parameter): ComposefsKarg {
  const [optional, rest] = splitOptional(value);
  const match = /^v([12])-(sha256|sha512)-12:(.*)$/.exec(rest);
  if (match === null) {
    throw malformed(text, 'expected "v1-sha512-12:" (v1 or v2, sha256 or sha512) and hex digits');
  }
  const version = match[1] === "1" ? 1 : 2;
  const algorithm = match[2] as VerityAlgorithm;
  const digest = checkHex(text, match[3]!, algorithm);
  return { key: "composefs.digest", digest, algorithm, optional, version };
}

function splitOptional(value: string | null): [optional: boolean, rest: string] {
  if (value === null) return [false, ""];
  return value.startsWith("?") ? [true, value.slice(1)] : [false, value];
}

function checkHex(text: string, hex: string, algorithm: VerityAlgorithm): string {
  const digest = hex.toLowerCase();
  if (digest.length !== HEX_DIGITS[algorithm] || !/^[0-9a-f]*$/.test(digest)) {
    throw malformed(text, `expected ${HEX_DIGITS[algorithm]} hex digits, found "${hex}"`);
  }
  return digest;
}

function malformed(text: string, reason: string): FormatError {
  return new FormatError("bad-value", `Kernel argument "${text}" is malformed: ${reason}`, {
    format: "cmdline",
  });
}
