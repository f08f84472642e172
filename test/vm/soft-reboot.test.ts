// A soft reboot from version 1 into version 2, which have the same kernel and initramfs; then one that was not
// prepared, and a full restart; then one verb that fetches, stages and enters a sibling of version 1. Before: refused
// while the kernel arguments are others, and a writable /usr.
//
// Goes on from the machine of the boot assessment tests: version 1 runs, version 2 is staged with one try.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keepEvidence } from "./keep-evidence.ts";
import type { Machine } from "./machine.ts";
import { ensureProductImages } from "./product-image.ts";
import { ensureSibling, ensureSiblingMedia } from "./sibling-image.ts";
import { ensureTrialState, startTrial } from "./trial-machine.ts";

const slowMs = 600_000;
let machine: Machine;
let bootId: string;

beforeAll(async () => {
  machine = await startTrial(await ensureTrialState(), "soft-reboot");
  bootId = await machine.must("cat /proc/sys/kernel/random/boot_id");
});
afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
});

const step = (work: () => Promise<void>) => keepEvidence(machine, work);

const must = (command: string) => machine.must(command, { timeoutMs: slowMs });

interface Slot {
  readonly image: { readonly version: string };
  readonly softRebootCapable: boolean;
  readonly composefs: { readonly verity: string; readonly missingVerityAllowed?: boolean };
}
interface Status {
  readonly booted: Slot;
  readonly staged: Slot | null;
  readonly rollback: Slot | null;
  readonly rollbackQueued: boolean;
  readonly usrOverlay: { readonly accessMode: string } | null;
}

async function status(): Promise<Status> {
  return (JSON.parse(await must("bootc status --format json")) as { status: Status }).status;
}

const versions = ({ booted, rollback, staged }: Status) =>
  [booted, staged, rollback].map((slot) => slot?.image.version ?? null);

/** Nothing failed, the root is what was meant, and the kernel is the one that was started first. */
async function checkRunning(version: string, softReboots: number): Promise<void> {
  expect(await must("systemctl is-system-running --wait; systemctl --failed --no-legend")).toBe(
    "running",
  );
  expect(await must("cat /usr/lib/bootc-demo/version")).toBe(version);
  expect(await must("systemctl show --property=SoftRebootsCount --value")).toBe(`${softReboots}`);
  const sameKernel = (await must("cat /proc/sys/kernel/random/boot_id")) === bootId;
  expect(sameKernel).toBe(softReboots > 0);
  expect(await must("findmnt --noheadings --output OPTIONS /")).toMatch(/verity=require/);
  expect(await must("findmnt --noheadings --output OPTIONS /sysroot")).toMatch(/^ro,/);
  expect((await machine.run("touch /usr/new")).output).toMatch(/Read-only file system/);
}

describe.sequential("a soft reboot", () => {
  it("is refused while the kernel arguments are others", () =>
    step(async () => {
      const refused = await machine.run("bootc internals prep-soft-reboot", { timeoutMs: slowMs });
      expect(refused.code).toBe(1);
      expect(refused.output).toMatch(
        /^error: Cannot soft-reboot into deployment [0-9a-f]{12}: its kernel arguments are others \(\+demo\.version=2 -demo\.version=1\); [^\n]*\n?$/,
      );
      expect((await machine.run("findmnt /run/nextroot")).code).not.toBe(0);
    }));

  it("/usr becomes writable for this boot", () =>
    step(async () => {
      expect(await must("bootc usr-overlay")).toBe(
        "A read/write overlayfs is now mounted on /usr\nAll changes there will be discarded on reboot.",
      );
      await must("echo x > /usr/lib/overlaid && echo 9 > /usr/lib/bootc-demo/version");
      expect(await must("bootc usroverlay")).toBe("An overlayfs is already mounted on /usr");
    }));

  it("with equal arguments it is prepared, and the running system does not notice", () =>
    step(async () => {
      // As if version 2 had been built without its own argument.
      await must(`mkdir -p /run/esp && mount /dev/disk/by-partlabel/esp /run/esp &&
        sed -i s/demo.version=2/demo.version=1/ /run/esp/loader/entries.staged/*+1.conf && umount /run/esp`);
      const { staged, usrOverlay } = await status();
      expect(staged?.softRebootCapable).toBe(true);
      expect(usrOverlay).toMatchObject({ accessMode: "readWrite" });
      expect(await must("bootc internals prep-soft-reboot")).toMatch(/^Prepared for a soft reboot/);
      expect(await must("cat /run/nextroot/usr/lib/bootc-demo/version")).toBe("2");
      expect(await must("findmnt --noheadings --output OPTIONS /sysroot")).toMatch(/^ro,/);
      // Nobody finalizes before shutdown, whatever is unmounted meanwhile.
      await must("ls /boot >/dev/null; systemctl stop boot.mount");
      await must("systemctl is-active bootc-finalize-staged.service");
      await must("test -e /run/composefs/staged-deployment");
    }));

  it("comes back in version 2 with the same kernel, and with what was changed after staging", () =>
    step(async () => {
      await must("echo after-staging > /etc/after-staging && rm /etc/issue.net");
      await must("mkdir -p /var/lib/demo && echo precious > /var/lib/demo/file");
      await machine.softReboot(slowMs, "bootc internals prep-soft-reboot --reboot");
      expect(machine.consoleText()).not.toMatch(/Failed unmounting [^\n]*sysroot/);
      await checkRunning("2", 1);
      expect(await must("cat /etc/after-staging /var/lib/demo/file")).toBe(
        "after-staging\nprecious",
      );
      expect((await machine.run("ls /etc/issue.net")).code).not.toBe(0);
      expect(await must("cat /etc/bootc-demo.conf")).toMatch(/hello from version 2/);
      expect((await machine.run("ls /usr/lib/overlaid")).code).not.toBe(0);
      const found = await status();
      expect(versions(found)).toEqual(["2", null, "1"]);
      expect(found).toMatchObject({ rollbackQueued: false, usrOverlay: null });
      expect(found.booted.composefs.missingVerityAllowed ?? false).toBe(false);
      expect((await machine.run("test -e /run/reboot-required")).code).not.toBe(0);
    }));

  it("without preparation it starts the same deployment again, with its /var", () =>
    step(async () => {
      await machine.softReboot(slowMs);
      await checkRunning("2", 2);
      expect(await must("cat /var/lib/demo/file")).toBe("precious");
    }));

  it("a full restart boots version 2", () =>
    step(async () => {
      await machine.reboot(slowMs);
      await checkRunning("2", 0);
      expect(await must("cat /etc/after-staging /var/lib/demo/file")).toBe(
        "after-staging\nprecious",
      );
      expect(versions(await status())).toEqual(["2", null, "1"]);
    }));

  it("switch --soft-reboot=required --apply enters another image by itself", () =>
    step(async () => {
      bootId = await must("cat /proc/sys/kernel/random/boot_id");
      const { v1 } = await ensureProductImages(console.log);
      const sibling = await ensureSibling(v1, "1.1", console.log);
      await machine.addDisk({
        id: "sibling",
        path: await ensureSiblingMedia(sibling),
        mode: "read",
      });
      await must(
        "mkdir -p /run/sibling && mount -o ro /dev/disk/by-id/virtio-sibling /run/sibling",
      );
      await must("echo before-switch > /etc/before-switch");
      await machine.softReboot(
        slowMs,
        "bootc switch --quiet --soft-reboot=required --apply --transport oci /run/sibling/os.oci",
      );
      await checkRunning("1.1", 1);
      expect(await must("cat /etc/before-switch /etc/after-staging")).toBe(
        "before-switch\nafter-staging",
      );
      expect(versions(await status())).toEqual(["1.1", null, "2"]);
    }));

  // A whole soft reboot more.
  it.skipIf(process.env["TEST_ALL"] === undefined)(
    "rollback --soft-reboot=required --apply goes back in the same way, and a second one forth",
    () =>
      step(async () => {
        for (const [round, version] of ["2", "1.1"].entries()) {
          await machine.softReboot(slowMs, "bootc rollback --soft-reboot=required --apply");
          await checkRunning(version, 2 + round);
          expect((await status()).rollbackQueued).toBe(false);
        }
        expect(await must("cat /etc/before-switch")).toBe("before-switch");
        await machine.reboot(slowMs);
        await checkRunning("1.1", 0);
      }),
  );
});
