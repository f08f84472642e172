// A whole machine that GRUB starts (TEST_ALL=1): an update is counted in grubenv and blessed; one whose kernel panics is
// tried three times, then the deployment before starts by itself, says what failed, and does not take it again.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureGrubMachineDisk } from "./grub-machine-disk.ts";
import { ensureMedia } from "./installed-disk.ts";
import { keepEvidence } from "./keep-evidence.ts";
import { type Machine, startMachine } from "./machine.ts";
import { ensureProductImages } from "./product-image.ts";

const SLOW_MS = 900_000;

describe.skipIf(process.env["TEST_ALL"] === undefined)("a machine with GRUB", () => {
  let machine: Machine;
  const must = (command: string) => machine.must(command, { timeoutMs: SLOW_MS });

  beforeAll(async () => {
    const { v1, v2, v3 } = await ensureProductImages(console.log);
    machine = await startMachine({
      name: "grub-story",
      boot: { kind: "uefi" },
      disks: [
        // GRUB 2.14: the first menu is the entries themselves, every later one our script.
        { id: "disk", path: await ensureGrubMachineDisk(v1, "forky"), mode: "overlay" },
        { id: "stick2", path: await ensureMedia(v2), mode: "read" },
        { id: "stick3", path: await ensureMedia(v3), mode: "read" },
      ],
    });
    await machine.waitReady(SLOW_MS);
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  const chapter = (work: () => Promise<void>) => keepEvidence(machine, work);

  interface Slot {
    readonly image: { readonly version: string };
    readonly composefs: { readonly bootloader: string };
  }
  interface Status {
    readonly booted: Slot;
    readonly staged: Slot | null;
    readonly rollback: Slot | null;
    readonly rollbackQueued: boolean;
    readonly problems?: readonly string[];
    readonly failedDeployments?: readonly { readonly attempts: number }[];
  }
  const readStatus = async () =>
    (JSON.parse(await must("bootc status --format json")) as { status: Status }).status;
  const versions = ({ booted, staged, rollback }: Status) =>
    [booted, staged, rollback].map((slot) => slot?.image.version ?? null);
  const switchTo = (id: string) =>
    `mkdir -p /run/${id} && { mountpoint -q /run/${id} || mount -o ro /dev/disk/by-id/virtio-${id} /run/${id}; } && bootc switch --quiet --transport oci /run/${id}/os.oci`;
  const environment = async () =>
    (await must("tr -d '#' < /sysroot/boot/grub/grubenv")).split("\n").slice(1);
  const checkRunning = async (version: string) => {
    expect(await must("systemctl is-system-running --wait; systemctl --failed --no-legend")).toBe(
      "running",
    );
    expect(await must("cat /usr/lib/bootc-demo/version")).toBe(version);
    expect((await readStatus()).problems ?? []).toEqual([]);
  };

  test("starts the installed deployment, and is told from others", () =>
    chapter(async () => {
      await checkRunning("1");
      const status = await readStatus();
      expect(status.booted.composefs.bootloader).toBe("grub");
      expect(await must("cat /proc/cmdline")).toMatch(/^BOOT_IMAGE=\S*\/boot\/bootc_composefs-/);
      await must(
        "echo local > /etc/local && mkdir -p /var/lib/demo && echo data > /var/lib/demo/file",
      );
    }));

  test("an update starts first, is counted, and blessed", () =>
    chapter(async () => {
      await must(switchTo("stick2"));
      await machine.reboot(SLOW_MS);
      await checkRunning("2");
      expect(versions(await readStatus())).toEqual(["2", null, "1"]);
      expect(await environment()).toEqual(["boot_success=1"]);
      const said = await must("journalctl -b -o cat -u bootc-boot-bless.service");
      expect(said).toMatch(/started well and is no longer on trial/);
      expect(await must("cat /etc/local /var/lib/demo/file")).toBe("local\ndata");
    }));

  test("one that panics is tried three times, then the one before starts", () =>
    chapter(async () => {
      await must(switchTo("stick3"));
      // No initramfs program: the kernel has nothing to go on with.
      await must("bootc kargs --append rdinit=/nothing");
      const starts = machine.waitForConsole(
        /(?:Command line: [^\n]*demo\.version=3[\s\S]*?Kernel panic[\s\S]*?){3}Command line: [^\n]*demo\.version=2/,
        SLOW_MS,
      );
      await machine.must("systemctl --no-block reboot");
      await starts;
      await machine.waitNextBoot(SLOW_MS);
      await checkRunning("2");
      expect(await environment()).toEqual(["boot_success=1"]);
      const status = await readStatus();
      expect(versions(status)).toEqual(["2", null, null]);
      expect(status).toMatchObject({ rollbackQueued: false, failedDeployments: [{ attempts: 3 }] });
      const again = await machine.run(switchTo("stick3"), { timeoutMs: SLOW_MS });
      expect(again).toMatchObject({ code: 1, output: expect.stringContaining("did not start") });
      expect(await must("cat /etc/local /var/lib/demo/file")).toBe("local\ndata");
    }));
});
