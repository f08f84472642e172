// Simple signing: a JSON document as an OpenPGP message, signed with one GPG key (containers-signature(5)).
//
// gpgv(1) verifies it: it needs no home directory and no agent, and trusts exactly the keyrings it is
// given. What it says on its status channel decides, not its exit code: that is 0 for signatures by
// revoked and expired keys too. Status lines are those of GnuPG's doc/DETAILS.

import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FormatError, StateError, UnsupportedError } from "../../../shared/error.ts";
import { SignatureRejection } from "./verdict.ts";

export interface GpgResult {
  /** What was signed. */
  readonly payload: Uint8Array;
  /** Of the primary key, 40 hex digits in upper case. */
  readonly fingerprint: string;
}

const TIMEOUT_MS = 30_000;
/** Digests that can be forged: MD5, SHA-1, RIPEMD-160 (RFC 9580, 9.5). */
const WEAK_DIGESTS: ReadonlySet<string> = new Set(["1", "2", "3"]);
const MAX_PAYLOAD_BYTES = 1 << 20;

/**
 * `keyrings` are exported public keys, binary or armored. Throws SignatureRejection when the message is
 * not signed by one of them, UnsupportedError when gpgv is not installed.
 */
export function verifyGpgMessage(
  message: Uint8Array,
  keyrings: readonly Uint8Array[],
  searchPath = `${process.env["PATH"] ?? ""}:/usr/bin:/bin`,
): GpgResult {
  // A cleartext signature or armor would be text; only a packet is what other tools accept, too.
  if ((message[0] ?? 0) < 0x80) throw new SignatureRejection("it is not an OpenPGP message");
  const program = Bun.which("gpgv", { PATH: searchPath });
  if (program === null) throw missingProgram();
  const directory = mkdtempSync(join(tmpdir(), "bootc-gpg-"));
  try {
    const rings = keyrings.flatMap((keyring, index) => {
      const path = join(directory, `keyring-${index}.gpg`);
      writeFileSync(path, dearmorKeyring(keyring), { mode: 0o600 });
      return ["--keyring", path];
    });
    const file = join(directory, "message");
    writeFileSync(file, message, { mode: 0o600 });
    const { payload, status } = runGpgv([program, "--homedir", directory, ...rings], file);
    return { payload, fingerprint: judgeStatus(status) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The payload may be anything until the status was judged. */
function runGpgv(command: readonly string[], file: string) {
  const channels = ["--status-fd", "2", "--logger-fd", "3", "--output", "-"];
  // The log repeats what signers wrote; what is read must be status alone.
  const log = openSync("/dev/null", "w");
  const result = Bun.spawnSync([...command, "--quiet", ...channels, "--", file], {
    stdio: ["ignore", "pipe", "pipe", log],
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" },
    timeout: TIMEOUT_MS,
    // Messages may be compressed, and a small one become endless.
    maxBuffer: MAX_PAYLOAD_BYTES,
  });
  closeSync(log);
  if (result.exitedDueToMaxBuffer === true) {
    throw new SignatureRejection(`its payload is larger than ${MAX_PAYLOAD_BYTES} bytes`);
  }
  if (result.exitCode === null) {
    throw new StateError("command-failed", `"gpgv" was killed by ${result.signalCode}`);
  }
  return {
    payload: new Uint8Array(result.stdout),
    status: result.stderr.toString("latin1"),
  };
}

function missingProgram(): UnsupportedError {
  return new UnsupportedError(
    "missing-program",
    'The program "gpgv" is needed to check signatures of GPG keys; install the package "gpgv" (Fedora: "gnupg2")',
    { program: "gpgv" },
  );
}

/** The fingerprint, when there is one signature, and that is good. */
function judgeStatus(status: string): string {
  const lines = status
    .split("\n")
    .filter((line) => line.startsWith("[GNUPG:] "))
    .map((line) => line.slice("[GNUPG:] ".length).split(" "));
  const find = (keyword: string) => lines.filter(([first]) => first === keyword);
  const has = (keyword: string) => find(keyword).length > 0;
  if (has("NO_PUBKEY")) {
    const key = find("NO_PUBKEY")[0]?.[1] ?? "";
    throw new SignatureRejection(`it was made with key ${key}, which the policy does not name`);
  }
  if (has("REVKEYSIG")) throw new SignatureRejection("its key was revoked");
  if (has("EXPKEYSIG")) throw new SignatureRejection("its key has expired");
  if (has("EXPSIG")) throw new SignatureRejection("it has expired");
  if (has("BADSIG")) throw new SignatureRejection("it does not fit what it signs");
  const single = ["NEWSIG", "GOODSIG", "VALIDSIG", "PLAINTEXT"].every(
    (keyword) => find(keyword).length === 1,
  );
  if (!single || has("ERRSIG") || has("NODATA")) {
    throw new SignatureRejection("it is not a message with one good signature");
  }
  const fields = find("VALIDSIG")[0] ?? [];
  if (WEAK_DIGESTS.has(fields[8] ?? "")) {
    throw new SignatureRejection("it was made with a digest algorithm that can be forged");
  }
  const fingerprint = fields[10] ?? fields[1] ?? "";
  if (!/^[0-9A-F]{40,64}$/.test(fingerprint)) {
    throw new SignatureRejection("gpgv names no key for it");
  }
  return fingerprint;
}

/** Keys as gpgv reads them. An armored export is text with the packets in base64 (RFC 9580, 6). */
function dearmorKeyring(keyring: Uint8Array): Uint8Array {
  if ((keyring[0] ?? 0) >= 0x80) return keyring;
  const text = new TextDecoder("latin1").decode(keyring);
  const blocks = [
    ...text.matchAll(
      /-----BEGIN PGP PUBLIC KEY BLOCK-----[^\S\n]*\r?\n(?:[^\r\n]+\r?\n)*?[^\S\n]*\r?\n([A-Za-z0-9+/=\s]+?)-----END PGP PUBLIC KEY BLOCK-----/g,
    ),
  ];
  if (blocks.length === 0) {
    throw new FormatError("bad-value", "it holds no OpenPGP public keys", { format: "keyring" });
  }
  const parts = blocks.map(([, body = ""]) => {
    // The last line, "=" and four digits, is a checksum, which may be missing and need not be looked at.
    const base64 = body.replace(/\s=[A-Za-z0-9+/]{4}\s*$/, "").replace(/\s/g, "");
    return Buffer.from(base64, "base64");
  });
  return Buffer.concat(parts);
}
