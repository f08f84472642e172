// Signing and checking EFI programs for Secure Boot, with sbsigntools: whoever has another signer has the two steps
// of `bootc container seal --unsigned`.

import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormatError, StateError } from "../../shared/error.ts";
import { loadCrypto } from "../../shared/format/ed25519/signature.ts";
import { findProgramDifference, isSignedProgram } from "../../shared/format/uki/signature.ts";
import { O } from "../../shared/sys/constants.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openRegularFile, pread, writeAll } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import { requireProgram, runProgram } from "../boot/program.ts";

const SBSIGN = { name: "sbsign", package: "sbsigntool" } as const;
const SBVERIFY = { name: "sbverify", package: "sbsigntool" } as const;
const OPENSSL = { name: "openssl", package: "openssl" } as const;
const MEMORY = "/dev/shm";
const KEY_BITS = 2048;
/** Nobody asks the firmware for the time; the certificate's end says nothing. */
const CERTIFICATE_DAYS = 3650;

/** Files with what signs; given away nowhere. */
export interface SecureBootKey {
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

/** UnsupportedError, before anything was done, when a program is missing. */
export function requireSigner(kind: "keys" | "ephemeral"): void {
  requireProgram(SBSIGN.name, SBSIGN.package);
  requireVerifier();
  if (kind === "ephemeral") requireProgram(OPENSSL.name, OPENSSL.package);
}

/** UnsupportedError when there is nothing to check signatures with. */
export function requireVerifier(): void {
  requireProgram(SBVERIFY.name, SBVERIFY.package);
}

/** Writes the signed program to `output`. */
export function signProgram(
  input: string,
  output: string,
  { key, certificate }: SecureBootKey,
): void {
  const args = ["--key", key, "--cert", certificate, "--output", output, input];
  runProgram(SBSIGN.name, args, SBSIGN);
}

/** Whether one of the certificates (paths, PEM) has signed the program. */
export function isSignedBy(path: string, certificates: readonly string[]): boolean {
  return certificates.some((certificate) => {
    try {
      runProgram(SBVERIFY.name, ["--cert", certificate, path], SBVERIFY);
      return true;
    } catch (error) {
      if (error instanceof StateError && error.code === "command-failed") return false;
      throw error;
    }
  });
}

/** Whether there is any signature. FormatError when it is no EFI program. */
export function hasSignature(path: string): boolean {
  using file = openProgram(path);
  return isSignedProgram(file);
}

/** Where the programs differ but for signatures; null when they are the same. */
export function compareProgramFiles(one: string, other: string): number | null {
  using first = openProgram(one);
  using second = openProgram(other);
  return findProgramDifference(first, second);
}

function openProgram(path: string) {
  if (!existsSync(path)) {
    throw new StateError("missing", `There is no file "${path}"`, { path });
  }
  const fd = openRegularFile(null, path);
  if (fd === null) throw new FormatError("bad-value", `"${path}" is not a regular file`, { path });
  return {
    name: path,
    sizeBytes: fstat(fd).sizeBytes,
    readAt: (target: Uint8Array, offset: number) => pread(fd, target, offset),
    [Symbol.dispose]: () => fd.close(),
  };
}

/**
 * A key whose private half is in memory that has no name, and goes with this process however that ends. `subject`: the
 * certificate's common name.
 */
export function createEphemeralSigner(subject: string): SecureBootKey & Disposable {
  using resources = new DisposableStack();
  const directory = mkdtempSync(join(MEMORY, "bootc-seal-"));
  resources.defer(() => removeTree(null, directory));
  const pair = loadCrypto().generateKeyPairSync("rsa", { modulusLength: KEY_BITS });
  const memory: Fd = resources.use(openat(null, MEMORY, O.TMPFILE | O.RDWR, 0o600));
  writeAll(memory, Buffer.from(pair.privateKey.export({ format: "pem", type: "pkcs8" })));
  const key = `/proc/${process.pid}/fd/${memory.number}`;
  const certificate = join(directory, "certificate.pem");
  const name = `/CN=${subject.replaceAll(/[^A-Za-z0-9 ._-]/g, "_")}/`;
  const lifetime = ["-days", String(CERTIFICATE_DAYS)];
  const args = ["req", "-x509", "-new", "-sha256", "-key", key, "-subj", name, ...lifetime];
  writeFileSync(certificate, runProgram(OPENSSL.name, args, OPENSSL), { mode: 0o600 });
  const owned = resources.move();
  return { key, certificate, [Symbol.dispose]: () => owned.dispose() };
}
