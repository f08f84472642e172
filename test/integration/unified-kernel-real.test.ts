// Unified kernels and addons as ukify makes them (systemd's, in the tools tree), where the other tests make their own:
// are their parts found, and does a machine go from one to the next?

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { addonDirectory } from "../../updater/boot/kernel-directory.ts";
import { computeUkiDigest, openUki } from "../../updater/boot/uki.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { readSealedLines } from "../../updater/image/sealed-image.ts";
import { openSource } from "../../updater/image/source.ts";
import { cacheDir } from "../support/cache.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { ScratchMachine } from "../support/scratch-machine.ts";
import { measureScratchImage } from "../support/unified-image.ts";
import { runTool } from "../vm/tools-root.ts";

const STUBS = "/usr/lib/systemd/boot/efi";
let scratch: string;
beforeAll(() => {
  mkdirSync(cacheDir, { recursive: true });
  scratch = mkdtempSync(join(cacheDir, "ukify-"));
});
afterAll(() => rmSync(scratch, { recursive: true }));

const put = (name: string, content: string) => {
  const path = join(scratch, name);
  writeFileSync(path, content);
  return path;
};

async function buildKernel(version: string, cmdline: string | null): Promise<Buffer> {
  const output = join(scratch, "os.efi");
  const files = [
    ...["--linux", put("linux", `kernel ${version}`.repeat(1000))],
    ...["--initrd", put("initrd", `initramfs ${version}`.repeat(3000))],
    ...["--os-release", `@${put("os-release", `ID=debian\nVERSION_ID=${version}\nNAME=Debian\n`)}`],
  ];
  const line = cmdline === null ? [] : ["--cmdline", cmdline];
  await runTool(["ukify", "build", ...files, ...line, "--uname", "6.12", "--output", output]);
  return readFileSync(output);
}

async function buildAddon(cmdline: string): Promise<Buffer> {
  const output = join(scratch, "x.addon.efi");
  const stub = `${STUBS}/addonx64.efi.stub`;
  await runTool(["ukify", "build", "--stub", stub, "--cmdline", cmdline, "--output", output]);
  return readFileSync(output);
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

test("the parts of a kernel and of an addon", { timeout: 600_000 }, async () => {
  await buildKernel("1", "quiet composefs=1");
  {
    using uki = openUki(join(scratch, "os.efi"));
    expect(readSealedLines(uki, "os.efi").cmdline).toBe("quiet composefs=1");
    expect(uki.readText(".osrel")).toBe("ID=debian\nVERSION_ID=1\nNAME=Debian");
    expect(computeUkiDigest(uki)).toBe(
      sha256("kernel 1".repeat(1000) + "initramfs 1".repeat(3000)),
    );
  }
  await buildKernel("1", null);
  using unsealed = openUki(join(scratch, "os.efi"));
  expect(readSealedLines(unsealed, "os.efi").cmdline).toBeNull();
  await buildAddon("console=ttyS0");
  using addon = openUki(join(scratch, "x.addon.efi"));
  expect(addon.readText(".cmdline")).toBe("console=ttyS0");
  expect(addon.sections.some(({ name }) => name === ".linux")).toBe(false);
});

test("installed sealed, updated to one without command line", { timeout: 600_000 }, async () => {
  using machine = new ScratchMachine();
  const imagePath = join(machine.directory, "os.oci");
  const reference = makeImageReference("oci", imagePath);
  const directories = ["boot/EFI/", "boot/EFI/Linux/", "boot/EFI/Linux/os.efi.extra.d/"];
  const write = async (version: string, sealed: boolean) => {
    const { id } = await measureScratchImage({ version });
    const kernel = await buildKernel(version, sealed ? `rw composefs=?${id}` : null);
    const addon = await buildAddon(`addon=${version}`);
    writeScratchImage(imagePath, {
      version,
      members: [
        ...directories.map((name) => ({ name, type: "5", mode: 0o755 })),
        { name: "boot/EFI/Linux/os.efi", content: kernel },
        { name: "boot/EFI/Linux/os.efi.extra.d/x.addon.efi", content: addon },
      ],
    });
    return { id, kernel, addon };
  };
  const first = await write("1", true);
  await installScratch(machine, imagePath, { rootMountSpec: "", kargs: [] });
  const second = await write("2", false);
  {
    using running = machine.boot();
    expect(running.booted.id).toBe(first.id);
    expect(running.system.cmdline).toBe(`rw composefs=?${first.id} addon=1`);
    const request = { kind: "upgrade", checkOnly: false, downloadOnly: false } as const;
    const rest = {
      reference,
      source: openSource(reference),
      dryRun: false,
      allowWeakerTrust: true,
    };
    const quiet = { onProgress: () => {}, onStep: () => {} };
    await updateImage(running, running.booted, { ...request, ...rest }, quiet);
    finalizeStaged(running, running.world());
  }
  using running = machine.boot();
  expect(running.booted.id).toBe(second.id);
  expect(running.system.cmdline).toMatch(/^rw composefs=\?\w+ panic=10 .* addon=2$/);
  const esp = (path: string) => readFileSync(join(machine.esp, path));
  const name = `bootc_composefs-${second.id}`;
  expect(esp(`EFI/Linux/bootc/${name}.efi`).equals(second.kernel)).toBe(true);
  expect(esp(`${addonDirectory(name)}/x.addon.efi`).equals(second.addon)).toBe(true);
});
