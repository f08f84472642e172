// What an installation puts on the boot partition for Secure Boot: the real bootctl takes the image's signed
// loader, keys to enrol go where systemd-boot looks for them, and a shim stays what it is.

import { X509Certificate } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseSignatureCertificates } from "../../shared/format/uki/certificates.ts";
import { readSignatureTable } from "../../shared/format/uki/signature.ts";
import { parseSignatureLists } from "../../shared/format/uki/signature-list.ts";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { ScratchMachine } from "../support/scratch-machine.ts";
import type { TarMember } from "../support/tar-builder.ts";
import { ensureSecureBootKeys, type SecureBootKeys, signEfi } from "../vm/secure-boot.ts";
import { ensureToolsRoot, runTool } from "../vm/tools-root.ts";

const EFI_PROGRAMS = "usr/lib/systemd/boot/efi";
const KEYS = "usr/lib/bootc/install/secureboot-keys";

let machine: ScratchMachine;
let imagePath: string;
let keys: SecureBootKeys;
let plain: Buffer;
let signed: Buffer;
const searchPath = process.env["PATH"];

/** bootctl of the tools root, which sees the mounts of whoever runs it. */
function writeBootctl(directory: string, root: string): void {
  const script = [
    "#!/bin/sh",
    `exec unshare --mount --propagation private -- sh -c '`,
    `mount --bind "$0" "$0" && for d in dev sys proc tmp; do mount --rbind /$d "$0/$d" || exit 1; done &&`,
    `exec chroot "$0" /usr/bin/bootctl "$@"' '${root}' "$@"`,
  ];
  writeFileSync(join(directory, "bootctl"), `${script.join("\n")}\n`);
  chmodSync(join(directory, "bootctl"), 0o755);
}

beforeAll(async () => {
  const root = await ensureToolsRoot();
  keys = await ensureSecureBootKeys();
  plain = readFileSync(join(root, EFI_PROGRAMS, "systemd-bootx64.efi"));
  await withScratch(async (scratch) => {
    const [input, output] = [join(scratch, "plain.efi"), join(scratch, "signed.efi")];
    writeFileSync(input, plain);
    await signEfi(input, output, keys.db);
    signed = readFileSync(output);
  });
});

beforeEach(async () => {
  machine = new ScratchMachine();
  // bootctl asks the device behind it, which here has to be none.
  mount("tmpfs", machine.esp, "tmpfs", 0, null);
  imagePath = join(machine.directory, "os.oci");
  const programs = join(machine.directory, "programs");
  mkdirSync(programs);
  writeBootctl(programs, await ensureToolsRoot());
  process.env["PATH"] = `${programs}:${searchPath}`;
});
afterEach(() => {
  umount2(machine.esp, MNT.DETACH);
  machine[Symbol.dispose]();
});
afterAll(() => {
  process.env["PATH"] = searchPath;
});

async function withScratch(work: (scratch: string) => Promise<void>): Promise<void> {
  using scratch = new ScratchMachine();
  await work(scratch.directory);
}

/** Directories come before what is in them. */
function below(path: string, files: Readonly<Record<string, Uint8Array | string>>): TarMember[] {
  const names = Object.keys(files).flatMap((name) => {
    const parts = `${path}/${name}`.split("/");
    return parts.slice(1, -1).map((_, index) => `${parts.slice(0, index + 2).join("/")}/`);
  });
  const directories = [...new Set(names)].map((name) => ({ name, type: "5", mode: 0o755 }));
  const members = Object.entries(files).map(([name, bytes]) => ({
    name: `${path}/${name}`,
    content: Buffer.from(bytes),
  }));
  return [...directories, ...members];
}

async function install(members: readonly TarMember[]): Promise<void> {
  writeScratchImage(imagePath, { version: "1", members });
  await installScratch(machine, imagePath, { bootloader: "systemd" });
}

const onEsp = (path: string) => readFileSync(join(machine.esp, path));

test("who signed is read as sbsign writes it, and lists of keys as efitools does", () => {
  const asFile = (bytes: Buffer) => ({
    name: "systemd-bootx64.efi",
    sizeBytes: bytes.length,
    readAt: (target: Uint8Array, offset: number) => bytes.copy(target, 0, offset),
  });
  const { raw } = new X509Certificate(readFileSync(keys.db.certificate));
  const found = parseSignatureCertificates(readSignatureTable(asFile(signed)));
  expect(found.map((each) => Buffer.from(each))).toEqual([raw]);
  expect(readSignatureTable(asFile(plain))).toHaveLength(0);
  const { certificates, hasOthers } = parseSignatureLists(readFileSync(join(keys.dir, "db.esl")));
  expect([certificates.map((each) => Buffer.from(each)), hasOthers]).toEqual([[raw], false]);
});

test("the loader that the image has signed is the one that is installed", async () => {
  await install(
    below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain, "systemd-bootx64.efi.signed": signed }),
  );
  expect(signed).not.toEqual(plain);
  for (const path of ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"]) {
    expect(onEsp(path)).toEqual(signed);
  }
});

test("keys to enrol go to the boot partition, each set into its directory", async () => {
  const auth = (name: string) => readFileSync(join(keys.authDir, `${name}.auth`));
  const files = {
    "auto/PK.auth": auth("PK"),
    "auto/KEK.auth": auth("KEK"),
    "auto/db.auth": auth("db"),
  };
  await install([
    ...below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain }),
    ...below(KEYS, { ...files, "auto/README": "no key", "vendor/db.auth": auth("db") }),
  ]);
  for (const [path, bytes] of Object.entries(files)) {
    expect(onEsp(`loader/keys/${path}`)).toEqual(bytes);
  }
  expect(onEsp("loader/keys/vendor/db.auth")).toEqual(auth("db"));
  expect(existsSync(join(machine.esp, "loader/keys/auto/README"))).toBe(false);
  // Whether keys are enrolled stays systemd-boot's decision and the owner's.
  expect(onEsp("loader/loader.conf").toString()).not.toMatch(/secure-boot-enroll/);
});

test("a setting of the owner about enrolling is kept", async () => {
  mkdirSync(join(machine.esp, "loader"));
  writeFileSync(join(machine.esp, "loader/loader.conf"), "secure-boot-enroll force\n");
  await install(below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain }));
  expect(onEsp("loader/loader.conf").toString()).toMatch(/^secure-boot-enroll force$/m);
});

describe("keys that look like a mistake are refused", () => {
  test.each([
    ["a key outside of a set", { "PK.auth": "x" }, "is no directory; put its files in one"],
    ["an empty key", { "auto/PK.auth": "" }, "has 0 bytes"],
    ["a key of more than 1 MiB", { "auto/PK.auth": Buffer.alloc((1 << 20) + 1, 1) }, "bytes"],
  ] as const)("%s", async (_, files, message) => {
    const members = [
      ...below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain }),
      ...below(KEYS, files),
    ];
    await expect(install(members)).rejects.toThrow(message);
    expect(existsSync(join(machine.esp, "loader/keys/auto/PK.auth"))).toBe(false);
  });

  test("a link instead of a key", async () => {
    const link = { name: `${KEYS}/auto/PK.auth`, type: "2", linkName: "/etc/shadow" };
    const members = below(KEYS, { "auto/KEK.auth": "x" });
    await expect(
      install([...below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain }), ...members, link]),
    ).rejects.toThrow("is no regular file");
  });
});

describe("a shim in the fallback directory", () => {
  let shim: Buffer;

  beforeAll(async () => {
    await withScratch(async (scratch) => {
      const program = join(scratch, "shim.efi");
      writeFileSync(program, plain);
      const generations = join(scratch, "sbat");
      writeFileSync(
        generations,
        "sbat,1,SBAT Version,sbat,1,https://x\nshim,4,UEFI shim,shim,1,https://x\n",
      );
      await runTool(["objcopy", "--update-section", `.sbat=${generations}`, program]);
      shim = readFileSync(program);
    });
  });

  const programs = () =>
    below(EFI_PROGRAMS, { "systemd-bootx64.efi": plain, "systemd-bootx64.efi.signed": signed });

  test("stays, and starts the signed systemd-boot", async () => {
    mkdirSync(join(machine.esp, "EFI/BOOT"), { recursive: true });
    writeFileSync(join(machine.esp, "EFI/BOOT/BOOTX64.EFI"), shim);
    writeFileSync(join(machine.esp, "EFI/BOOT/fbx64.efi"), "not touched");
    await install(programs());
    expect(onEsp("EFI/BOOT/BOOTX64.EFI")).toEqual(shim);
    expect(onEsp("EFI/BOOT/fbx64.efi").toString()).toBe("not touched");
    expect(onEsp("EFI/BOOT/grubx64.efi")).toEqual(signed);
    expect(onEsp("EFI/systemd/systemd-bootx64.efi")).toEqual(signed);
  });

  test("keeps the boot loader of somebody else that it starts", async () => {
    mkdirSync(join(machine.esp, "EFI/BOOT"), { recursive: true });
    writeFileSync(join(machine.esp, "EFI/BOOT/BOOTX64.EFI"), shim);
    writeFileSync(join(machine.esp, "EFI/BOOT/grubx64.efi"), "GRUB of another system");
    await install(programs());
    expect(onEsp("EFI/BOOT/BOOTX64.EFI")).toEqual(shim);
    expect(onEsp("EFI/BOOT/grubx64.efi").toString()).toBe("GRUB of another system");
  });

  test("is told from other programs there, which bootctl replaces", async () => {
    mkdirSync(join(machine.esp, "EFI/BOOT"), { recursive: true });
    writeFileSync(join(machine.esp, "EFI/BOOT/BOOTX64.EFI"), "no program at all");
    await install(programs());
    expect(onEsp("EFI/BOOT/BOOTX64.EFI")).toEqual(signed);
    expect(existsSync(join(machine.esp, "EFI/BOOT/grubx64.efi"))).toBe(false);
  });
});
