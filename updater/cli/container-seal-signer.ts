// Who signs for Secure Boot when `bootc container seal` runs: what that needs is looked at before anything is fetched, and
// what others get of it is given out at the end.

import { statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { StateError } from "../../shared/error.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { readFileChunks } from "../container/file-chunks.ts";
import type { SealPlan } from "../container/seal-plan.ts";
import {
  createEphemeralSigner,
  requireSigner,
  requireVerifier,
  type SecureBootKey,
} from "../container/secure-boot.ts";
import { readCertificate, requireKeyOf } from "../container/secure-boot-key.ts";
import { requireUkify } from "../container/ukify.ts";
import type { SealSigner } from "./container-seal-options.ts";
import { prepareCertificates } from "./container-verify.ts";
import type { Terminal } from "./terminal.ts";

const FILE_MODE = 0o644;

/** Before anything is fetched: UnsupportedError for a missing program, FormatError and StateError for files. */
export function requireSealSigner(signer: SealSigner): void {
  if (signer.kind === "signed") {
    if (signer.certificate === null) return;
    readCertificate(signer.certificate);
    requireVerifier();
    return;
  }
  if (signer.kind === "keys") requireKeyOf(signer.certificate, signer.key);
  else requirePlace(signer.kind === "ephemeral" ? signer.certificateOut : signer.ukiOut);
  requireUkify();
  if (signer.kind !== "unsigned") requireSigner(signer.kind);
}

/** StateError when no file can get this name. */
function requirePlace(path: string | null): void {
  if (path === null) return;
  const parent = dirname(resolve(path));
  if (statSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new StateError("missing", `There is no directory "${parent}" for "${path}"; make it`);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return;
  throw new StateError("exists", `"${path}" is a directory; name a file`);
}

export function openSigner(
  terminal: Terminal,
  signer: Exclude<SealSigner, { kind: "signed" }>,
  { digest }: SealPlan,
  directory: string,
): { readonly key: SecureBootKey | null } & Disposable {
  if (signer.kind === "unsigned") return { key: null, [Symbol.dispose]: () => {} };
  if (signer.kind === "keys") {
    const [certificate] = prepareCertificates(terminal, [signer.certificate], directory);
    const key = { key: resolve(signer.key), certificate: certificate! };
    return { key, [Symbol.dispose]: () => {} };
  }
  const key = createEphemeralSigner(`bootc image ${digest.slice(0, 16)}`);
  return { key, [Symbol.dispose]: () => key[Symbol.dispose]() };
}

/** What others need, before the image has its name: without it the image would be of no use. */
export function giveOut(
  signer: SealSigner,
  key: SecureBootKey | null,
  [kernel, ...addons]: readonly string[],
): void {
  if (signer.kind === "ephemeral" && key !== null) copy(key.certificate, signer.certificateOut);
  if (signer.kind !== "unsigned" || signer.ukiOut === null || kernel === undefined) return;
  copy(kernel, signer.ukiOut);
  for (const addon of addons) {
    const name = addon.slice(addon.lastIndexOf("bootc-runtime-"));
    copy(addon, join(dirname(signer.ukiOut), name));
  }
}

/** There as a whole, or as it was. */
function copy(from: string, to: string): void {
  writeChunksAtomic(null, resolve(to), readFileChunks(from), { mode: FILE_MODE });
}
