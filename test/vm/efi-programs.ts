// EFI programs for the tamper matrix: signed, unsigned, by the wrong key, revoked, taken apart.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../support/cache.ts";
import { type RawDisk, readEsp, writeEsp } from "./disk-edit.ts";
import { type EfiKey, type SecureBootKeys, secureBootOwner, signEfi } from "./secure-boot.ts";
import { runTool } from "./tools-root.ts";

const addonStub = "/usr/lib/systemd/boot/efi/addonx64.efi.stub";

async function inScratch<T>(work: (path: (name: string) => string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(cacheDir, "vm/efi-"));
  try {
    return await work((name) => join(dir, name));
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Signs a program, or with a null key takes its signature away. */
export function resign(program: Uint8Array, key: EfiKey | null): Promise<Buffer> {
  return inScratch(async (path) => {
    await writeFile(path("in"), program);
    if (key !== null) await signEfi(path("in"), path("out"), key);
    else
      await runTool([
        "sh",
        "-c",
        'sbattach --remove "$1"; cp "$1" "$2"',
        "sh",
        path("in"),
        path("out"),
      ]);
    return readFile(path("out"));
  });
}

/** As `resign`, in place on an ESP. */
export async function resignEsp(disk: RawDisk, path: string, key: EfiKey | null): Promise<void> {
  await writeEsp(disk, path, await resign(await readEsp(disk, path), key));
}

/** An addon that adds to the kernel command line. */
export async function makeAddon(cmdline: string, key: EfiKey | null): Promise<Buffer> {
  const plain = await inScratch(async (path) => {
    const words = ["--stub", addonStub, "--cmdline", cmdline, "--output", path("addon")];
    await runTool(["ukify", "build", ...words]);
    return readFile(path("addon"));
  });
  return key === null ? plain : resign(plain, key);
}

/** The bytes of sections of a program. */
export function takeSections(
  program: Uint8Array,
  names: readonly string[],
): Promise<Record<string, Buffer>> {
  return inScratch(async (path) => {
    await writeFile(path("in"), program);
    const found: Record<string, Buffer> = {};
    for (const name of names) {
      const words = ["-O", "binary", `--only-section=${name}`, path("in"), path("out")];
      await runTool(["objcopy", ...words]);
      found[name] = await readFile(path("out"));
    }
    return found;
  });
}

/** UEFI variables (qcow2, in `dir`) of an enforcing firmware that has the program's hash in dbx. */
export async function revokeProgram(
  program: string,
  dir: string,
  keys: SecureBootKeys,
): Promise<string> {
  const script = `set -e
cd "$1"
hash-to-efi-sig-list "$2" dbx.esl
sign-efi-sig-list -g $4 -k "$3/KEK.key" -c "$3/KEK.crt" dbx dbx.esl dbx.auth
virt-fw-vars -i "$3/enforcing.fd" -o vars.fd --set-dbx dbx.auth
qemu-img convert -f raw -O qcow2 vars.fd vars.qcow2`;
  await runTool(["sh", "-c", script, "sh", dir, program, keys.dir, secureBootOwner]);
  return join(dir, "vars.qcow2");
}
