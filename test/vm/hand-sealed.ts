// A sealed disk made by hand, with nothing of the product's own sealing: the kernel and initramfs of an
// installed Type #1 entry become a UKI by ukify, signed by the rig's key, and so does systemd-boot.
// It shows what the firmware and systemd-boot do by themselves.

import { rm, writeFile } from "node:fs/promises";
import { copyDisk, listEsp, type RawDisk, readEsp, removeEsp, writeEsp } from "./disk-edit.ts";
import { resignEsp } from "./efi-programs.ts";
import { ensureSecureBootKeys, signEfi } from "./secure-boot.ts";
import { runTool } from "./tools-root.ts";

export type HandSealed = {
  readonly disk: RawDisk;
  readonly id: string;
  /** Paths on the ESP. */
  readonly uki: string;
  readonly entry: string;
  readonly cmdline: string;
};

const loaders = ["/EFI/BOOT/BOOTX64.EFI", "/EFI/systemd/systemd-bootx64.efi"];

/** `installed` is a disk with one Type #1 entry. */
export async function sealByHand(installed: string, path: string): Promise<HandSealed> {
  const disk = await copyDisk(installed, path);
  const { db } = await ensureSecureBootKeys();
  const entry = (await listEsp(disk)).find((each) => /^\/loader\/entries\/.*\.conf$/.test(each))!;
  const text = (await readEsp(disk, entry)).toString();
  const value = (key: string) => new RegExp(`^${key} (.*)$`, "m").exec(text)![1]!;
  const cmdline = value("options");
  const id = /composefs=([0-9a-f]+)/.exec(cmdline)![1]!;
  const uki = `/EFI/Linux/bootc/bootc_composefs-${id}.efi`;
  const part = (name: string) => `${path}.${name}`;
  const parts = ["kernel", "initrd", "uki", "signed"].map(part);
  try {
    await writeFile(part("kernel"), await readEsp(disk, value("linux")));
    await writeFile(part("initrd"), await readEsp(disk, value("initrd")));
    const files = ["--linux", part("kernel"), "--initrd", part("initrd")];
    const line = ["--cmdline", cmdline, "--os-release", "ID=debian\n", "--uname", "1"];
    await runTool(["ukify", "build", ...files, ...line, "--output", part("uki")]);
    await signEfi(part("uki"), part("signed"), db);
    await writeEsp(disk, uki, await Bun.file(part("signed")).bytes());
  } finally {
    for (const each of parts) await rm(each, { force: true });
  }
  await removeEsp(disk, value("linux").split("/").slice(0, -1).join("/"));
  for (const loader of loaders) await resignEsp(disk, loader, db);
  const kept = text.split("\n").filter((each) => !/^(linux|initrd|options) /.test(each));
  await writeEsp(disk, entry, `${kept.join("\n").trim()}\nefi ${uki}\n`);
  return { disk, id, uki, entry, cmdline };
}
