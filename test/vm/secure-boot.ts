// Secure Boot of the rig: keys of its own, and UEFI variables that enforce them.
// Invariants: made once and kept in the cache, so that images signed with them stay; `foreign` is a key
// that no firmware here knows. The directory is the one with which `install to-filesystem` has keys
// enrolled (`auto/*.auth`), so it can go into an image as it is.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { runTool } from "./tools-root.ts";

/** "setup": the firmware has no keys yet and takes the first ones it is given. */
export type SecureBootMode = "setup" | "enforcing";

export const secureBootCode = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const emptyVars = "/usr/share/OVMF/OVMF_VARS_4M.fd";

export type EfiKey = { readonly key: string; readonly certificate: string };

export type SecureBootKeys = {
  readonly dir: string;
  /** Signs what may start. */
  readonly db: EfiKey;
  /** Signs, and nobody trusts it. */
  readonly foreign: EfiKey;
  /** Holds PK.auth, KEK.auth and db.auth. */
  readonly authDir: string;
  /** UEFI variables (raw) of a firmware that has the keys and enforces them. */
  readonly enforcingVars: string;
  /** UEFI variables (raw) of a firmware in setup mode. */
  readonly setupVars: string;
  /** Changes with the keys. */
  readonly identity: string;
};

export const secureBootOwner = "5b1f7b0e-6f7b-4a0c-9a51-7e3c1f0b6d42";

const script = `set -e
cd "$1"; guid=$2; empty=$3
for name in PK KEK db foreign; do
  openssl req -quiet -newkey rsa:2048 -nodes -x509 -sha256 -days 7300 -subj "/CN=bootc rig $name/" \\
    -keyout $name.key -out $name.crt
  cert-to-efi-sig-list -g $guid $name.crt $name.esl
done
mkdir auto
sign-efi-sig-list -g $guid -k PK.key -c PK.crt PK PK.esl auto/PK.auth
sign-efi-sig-list -g $guid -k PK.key -c PK.crt KEK KEK.esl auto/KEK.auth
sign-efi-sig-list -g $guid -k KEK.key -c KEK.crt db db.esl auto/db.auth
virt-fw-vars -i $empty -o enforcing.fd --set-pk $guid PK.crt --add-kek $guid KEK.crt \\
  --add-db $guid db.crt --no-microsoft --sb
`;

/** Makes the keys when they are not there yet. */
export async function ensureSecureBootKeys(): Promise<SecureBootKeys> {
  const key = cacheKey("secure boot keys 1", secureBootOwner, script);
  const dir = await cachedDir(join(cacheDir, "vm", `secure-boot-${key}`), async (path) => {
    await runTool(["sh", "-c", script, "sh", path, secureBootOwner, emptyVars]);
  });
  const pair = (name: string): EfiKey => ({
    key: join(dir, `${name}.key`),
    certificate: join(dir, `${name}.crt`),
  });
  return {
    dir,
    db: pair("db"),
    foreign: pair("foreign"),
    authDir: join(dir, "auto"),
    enforcingVars: join(dir, "enforcing.fd"),
    setupVars: emptyVars,
    identity: createHash("sha256")
      .update(readFileSync(join(dir, "db.crt")))
      .digest("hex"),
  };
}

/** Signs an EFI program; paths lie in the cache or in /tmp. An older signature is replaced. */
export async function signEfi(input: string, output: string, { key, certificate }: EfiKey) {
  const sign =
    'sbattach --remove "$1" 2>/dev/null; sbsign --key "$2" --cert "$3" --output "$4" "$1"';
  await runTool(["sh", "-c", sign, "sh", input, key, certificate, output]);
}
