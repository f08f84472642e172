// A whole system on Debian's kernels, old and new (TEST_ALL=1): the installed disk of the story with
// the kernel and initramfs exchanged, started through prepare-root; then tampering.
//
// Linux before 6.6 cannot check files by fs-verity: there the deployment is refused as installed, and
// starts only when the administrator allows it with "?" (docs/decisions/0007-old-kernels.md).

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DebianKernel, ensureDebianKernel, type KernelChoice } from "./debian-kernel.ts";
import {
  type ExchangedKernel,
  ensureExchangedInitramfs,
  readBootOptions,
  startExchanged,
} from "./exchanged-kernel.ts";
import { ensureInstalledDisk } from "./installed-disk.ts";
import { expectedForm, type KernelForm } from "./kernel-form.ts";
import type { Machine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import type { OsImage } from "./os-image.ts";
import { ensureProductImages } from "./product-image.ts";
import { findObject, tamperFile, tamperImage } from "./story.ts";

const CHOICES: readonly KernelChoice[] = ["bookworm", "trixie", "newest"];
const SLOW_MS = 600_000;
/** To the line's end, as consoles speak in pieces. */
const REFUSAL = /prepare-root: refused: [^\r\n]*(?=[\r\n])/;

let image: OsImage;
let disk: string;
let options: string;

describe.skipIf(process.env["TEST_ALL"] === undefined)("a whole system", () => {
  beforeAll(async () => {
    ({ v1: image } = await ensureProductImages(console.log));
    disk = await ensureInstalledDisk(image, { ...silentNarrator, progress: console.log });
    options = await readBootOptions(disk);
  });

  describe.each(CHOICES)("with the kernel of %s", (choice) => {
    let kernel: DebianKernel;
    let form: KernelForm;
    let boot: ExchangedKernel;
    let machine: Machine;

    beforeAll(async () => {
      kernel = await ensureDebianKernel(choice, console.log);
      form = expectedForm(kernel.release);
      const initrd = await ensureExchangedInitramfs(image, kernel, console.log);
      const append = form.verity ? options : options.replace(/\bcomposefs=/, "composefs=?");
      boot = { name: `kernel-${choice}`, disk, kernel, initrd, append };
      const started = performance.now();
      machine = await startExchanged(boot, console.log);
      await machine.waitReady(SLOW_MS);
      await machine.must("systemctl is-system-running --wait; systemctl --failed", {
        timeoutMs: SLOW_MS,
      });
      const seconds = Math.round((performance.now() - started) / 1000);
      console.log(`${choice}: ${kernel.release} runs after ${seconds} s`);
    });
    afterAll(async () => {
      await machine?.[Symbol.asyncDispose]();
    });

    test("runs, with the mounts that are expected", async () => {
      expect(await machine.must("uname -r")).toBe(kernel.release);
      expect(
        await machine.must("systemctl is-system-running; systemctl --failed --no-legend"),
      ).toBe("running");
      const line = await machine.must("cat /run/composefs/prepare-root");
      const verity = form.verity ? "require" : "off";
      expect(line).toMatch(
        new RegExp(`^mounted composefs:\\S+ verity=${verity} root=ro etc=bind var=bind erofs=`),
      );
      expect(line).toContain(` erofs=${form.erofs} `);
      const list = "findmnt -n -r -o TARGET,FSTYPE -t overlay,ext4 && findmnt -n -o OPTIONS /";
      const lines = (await machine.must(list)).split("\n");
      expect(lines.slice(0, -1)).toEqual(["/ overlay", "/sysroot ext4", "/etc ext4", "/var ext4"]);
      expect(lines.at(-1)?.includes("verity=require")).toBe(form.verity);
      const loops = await machine.must("ls -d /sys/block/loop*/loop 2>/dev/null | wc -l");
      expect(loops).toBe(form.erofs === "loop" ? "1" : "0");
      const status = await machine.must("bootc status --format humanreadable", {
        timeoutMs: SLOW_MS,
      });
      expect(status).toMatch(/^● Booted image: [\s\S]*^ +Version: 1 /m);
    });

    test("gives an I/O error for a changed object", async () => {
      await tamperFile({ machine, narrator: silentNarrator }, "/usr/bin/hello");
      expect(await machine.must("systemctl is-system-running")).toBe("running");
    });

    test("reads an exchanged object only where fs-verity cannot be required", async () => {
      const path = "/usr/bin/shuf";
      const object = await findObject(machine, path);
      await machine.must(`unshare --mount --propagation private sh -ec '
        mount -o remount,bind,rw /sysroot; echo forged > ${object}.new; chmod 755 ${object}.new
        mv ${object}.new ${object}; sync; echo 3 > /proc/sys/vm/drop_caches'`);
      const { code, output } = await machine.run(`head -c 6 ${path}`);
      if (form.verity) expect([code, output]).toEqual([1, expect.stringContaining("Input/output")]);
      else expect([code, output]).toEqual([0, "forged"]);
    });

    test("refuses a changed image in one line", async () => {
      await tamperImage({ machine, narrator: silentNarrator });
      await machine.reset();
      const [line] = await machine.waitForConsole(REFUSAL, SLOW_MS);
      expect(line).toMatch(/The image of deployment \S+ (?:is damaged|was changed)/);
      await machine.kill();
    });

    test("starts as installed, or is refused in one line", async () => {
      if (form.verity) return expect(boot.append).toMatch(/ composefs=[0-9a-f]{128}( |$)/);
      const name = `${boot.name}-strict`;
      await using strict = await startExchanged({ ...boot, name, append: options }, console.log);
      const [line] = await strict.waitForConsole(REFUSAL, SLOW_MS);
      expect(line).toMatch(/The kernel cannot check files by fs-verity .*"composefs=\?<id>"/);
      // The machine restarts, so that another entry gets its turn.
      await strict.waitForConsole(/reboot: Restarting system/, SLOW_MS);
    });
  });
});
