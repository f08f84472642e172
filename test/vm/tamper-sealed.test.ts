// The tamper matrix of a sealed machine under Secure Boot: one change to its disk from outside, and a start
// (docs/security.md). The menu has the deployment twice, each with a kernel file of its own; the first one has one try
// left, so that whatever stops it shows the second.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { cacheDir } from "../support/cache.ts";
import {
  flipEsp,
  flipRoot,
  type RawDisk,
  readEsp,
  readRoot,
  removeEsp,
  writeEsp,
  writeRoot,
} from "./disk-edit.ts";
import { type DiskEntry, putOnTrial, readMenu, rewriteEntry } from "./disk-menu.ts";
import { makeAddon, resignEsp, revokeProgram, takeSections } from "./efi-programs.ts";
import { ensureSpareDisk } from "./sealed-pair.ts";
import { ensureSecureBootKeys, type SecureBootKeys } from "./secure-boot.ts";
import { namesDeployment, type RowOptions, type Told, tryTampered } from "./tamper.ts";

const isLong = process.env["TEST_ALL"] === "1";

let disk: RawDisk;
let keys: SecureBootKeys;
let first: DiskEntry;

/** The kernel that starts tells its command line first; the image is what that names. */
const kernelStarted = /Command line: [^\n]*\n/;
const nothingLeft = /No bootable option[^\n]*\n/;
const rootMounted = /prepare-root: mounted [^\n]*\n/;

/** The row's outcome; by default the machine's Secure Boot is on and it has one start. */
function row(
  name: string,
  change: (disk: RawDisk) => Promise<void>,
  options: Partial<RowOptions> = {},
): Promise<Told> {
  return tryTampered(
    disk,
    async (copy) => {
      await writeEsp(copy, "/loader/loader.conf", "timeout 0\n");
      await putOnTrial(copy);
      await change(copy);
    },
    { name: `sealed ${name}`, secureBoot: "enforcing", until: kernelStarted, ...options },
  );
}

/** The first entry started, or after it had been refused the second one did. */
function expectStart(told: Told, which: "first" | "second"): void {
  expect(denied.test(told.text)).toBe(which === "second");
  expect(told.cmdlines).toHaveLength(1);
  expect(namesDeployment(told.cmdlines[0], first.id)).toBe(true);
}
const expectFirst = (told: Told) => expectStart(told, "first");
const expectSecond = (told: Told) => expectStart(told, "second");
const says = (told: Told, pattern: RegExp) => expect(told.lines.join("\n")).toMatch(pattern);
/** Loaders and firmware spell it in their own ways. */
const denied = /Error loading \\EFI\\Linux\\[^\n]*(?:Access denied|Security violation)/i;

async function offsetIn(copy: RawDisk, path: string, text: string): Promise<number> {
  const at = (await readEsp(copy, path)).indexOf(text);
  if (at < 0) throw new Error(`${path} does not have "${text}"`);
  return at;
}

const loader = "/EFI/BOOT/BOOTX64.EFI";
const uki = () => first.uki!;
const extras = () => `${uki()}.extra.d`;

describe.runIf(isLong)("a sealed machine under Secure Boot", () => {
  beforeAll(async () => {
    keys = await ensureSecureBootKeys();
    disk = await ensureSpareDisk(console.log);
    first = (await readMenu(disk))[0]!;
  });

  it("refuses a unified kernel with a changed byte, and starts the other one", async () => {
    const told = await row("uki byte", async (copy) =>
      flipEsp(copy, uki(), (await offsetIn(copy, uki(), "composefs=")) + 20),
    );
    expectSecond(told);
  });

  it("starts what nobody changed", async () => {
    const told = await row("nothing", async () => {}, { until: rootMounted });
    says(told, /Secure boot enabled/);
    expectFirst(told);
  });

  it.each([
    [
      "has a changed signature",
      async (copy: RawDisk) => flipEsp(copy, uki(), (await readEsp(copy, uki())).length - 300),
    ],
    ["is signed by a foreign key", (copy: RawDisk) => resignEsp(copy, uki(), keys.foreign)],
    ["is not signed", (copy: RawDisk) => resignEsp(copy, uki(), null)],
  ])("refuses a unified kernel that %s", async (name, change) => {
    const told = await row(`uki ${name}`, change);
    expectSecond(told);
  });

  it("refuses a unified kernel that the owner revoked in dbx", async () => {
    const scratch = await mkdtemp(join(cacheDir, "vm/dbx-"));
    try {
      const program = join(scratch, "uki.efi");
      await writeFile(program, await readEsp(disk, uki()));
      const uefiVars = await revokeProgram(program, scratch, keys);
      const told = await row("uki in dbx", async () => {}, { uefiVars, until: nothingLeft });
      // The other entry's kernel is the same one.
      says(told, denied);
      expect(told.cmdlines).toEqual([]);
    } finally {
      await rm(scratch, { recursive: true });
    }
  });

  it.each([
    ["not signed", (copy: RawDisk) => resignEsp(copy, loader, null)],
    ["signed by a foreign key", (copy: RawDisk) => resignEsp(copy, loader, keys.foreign)],
  ])("does not even start a boot loader that is %s", async (name, change) => {
    const told = await row(
      `loader ${name}`,
      async (copy) => {
        await change(copy);
        await removeEsp(copy, "/EFI/systemd/systemd-bootx64.efi");
      },
      { until: /BdsDxe: (?:failed to load|No bootable)[^\n]*\n/ },
    );
    says(told, /BdsDxe: failed to load/);
    expect([told.mounted, told.cmdlines]).toEqual([null, []]);
  });

  it("pays no regard to arguments that the entry adds", async () => {
    const told = await row("entry options", (copy) =>
      rewriteEntry(copy, 0, (text) => `${text}options init=/bin/sh rd.break composefs=00\n`),
    );
    expectFirst(told);
    expect(told.cmdlines[0]).not.toMatch(/init=|rd\.break|composefs=00/);
  });

  it("takes no initramfs that the entry adds", async () => {
    const addInitramfs = async (copy: RawDisk) => {
      await writeEsp(copy, "/evil.img", "this is no archive, which the kernel would say");
      await rewriteEntry(copy, 0, (text) => `${text}initrd /evil.img\n`);
    };
    const told = await row("entry initrd", addInitramfs, { until: rootMounted });
    expectFirst(told);
    expect(told.text).not.toMatch(/evil|unpacking failed/i);
  });

  it("refuses a plain kernel, even the one of its own unified kernel", async () => {
    const plainEntry = async (copy: RawDisk) => {
      const parts = await takeSections(await readEsp(copy, uki()), [".linux", ".initrd"]);
      await writeEsp(copy, "/vmlinuz", parts[".linux"]!);
      await writeEsp(copy, "/initrd", parts[".initrd"]!);
      const lines = `linux /vmlinuz\ninitrd /initrd\noptions composefs=${first.id}`;
      await rewriteEntry(copy, 0, (text) => text.replace(/^(?:efi|uki) .*$/m, lines));
    };
    // systemd-boot 257 may crash after this, which is an end as well.
    const told = await row("type 1", plainEntry, { until: /Error loading \\+vmlinuz[^\n]*\n/ });
    says(told, /Error loading \\+vmlinuz[^\n]*(?:Access denied|Security violation)/i);
    expect(told.cmdlines).toEqual([]);
  });

  it.each([
    ["not signed", () => makeAddon("evil=1", null)],
    ["signed by a foreign key", () => makeAddon("evil=1", keys.foreign)],
    [
      "changed",
      async () => {
        const addon = await makeAddon("evil=0 it.must.have=room", keys.db);
        addon[addon.indexOf("evil=0") + 5]! ^= 1;
        return addon;
      },
    ],
  ])("leaves an addon out that is %s", async (name, make) => {
    const told = await row(`addon ${name}`, async (copy) => {
      const addon = await make();
      await writeEsp(copy, `${extras()}/evil.addon.efi`, addon);
      await writeEsp(copy, "/loader/addons/evil.addon.efi", addon);
    });
    expectFirst(told);
    expect(told.cmdlines[0]).not.toContain("evil");
  });

  it("takes a signed addon of anybody who has the key: they are all trusted alike", async () => {
    const told = await row("addon signed", async (copy) =>
      writeEsp(copy, `${extras()}/more.addon.efi`, await makeAddon("added=1", keys.db)),
    );
    expectFirst(told);
    expect(told.cmdlines[0]).toContain("added=1");
  });

  it("refuses a changed EROFS image in one line", async () => {
    const told = await row(
      "erofs",
      async (copy) => flipRoot(copy, await objectOf(copy, `/composefs/images/${first.id}`), 8192),
      { until: /prepare-root: refused[^\n]*\n/ },
    );
    says(told, /prepare-root: refused[^\n]*damaged/);
  });

  it("starts with a changed /etc: that belongs to the machine and is not protected", async () => {
    const marker = `/state/deploy/${first.id}/etc/hostname`;
    const told = await row("etc", (copy) => writeRoot(copy, marker, "changed\n"), {
      until: /changed login:/,
    });
    expectFirst(told);
  });

  it("may take the state of a second disk with the same UUIDs, and never another image", async () => {
    const hostname = (name: string) => (copy: RawDisk) =>
      writeRoot(copy, `/state/deploy/${first.id}/etc/hostname`, `${name}\n`);
    const told = await row("second disk", hostname("honest"), {
      second: hostname("intruder"),
      until: /(?:honest|intruder) login:/,
    });
    expectFirst(told);
    // Which of the two is chance: nothing tells them apart.
    says(told, /(?:honest|intruder) login:/);
  });

  it("is not sealed when Secure Boot is off: foreign kernels and other arguments are taken", async () => {
    const told = await row(
      "secure boot off",
      async (copy) => {
        // Or systemd-boot would enrol them, and Secure Boot were on.
        await removeEsp(copy, "/loader/keys");
        await resignEsp(copy, uki(), keys.foreign);
        // In place of the kernel's own, so the console has to be named again.
        const options = `options evil=1 console=ttyS0,115200 composefs=${first.id}`;
        await rewriteEntry(copy, 0, (text) => `${text}${options}\n`);
      },
      { secureBoot: "setup" },
    );
    expectFirst(told);
    expect(told.cmdlines[0]).toContain("evil=1");
  });
});

/** The object behind a link of the repository. */
async function objectOf(copy: RawDisk, link: string): Promise<string> {
  const target = (await readRoot(copy, link)).toString();
  return join(link, "..", target);
}
