// A sealed machine from its first start on: an image sealed by `bootc container seal`, installed by `bootc
// install to-filesystem`, in a machine whose firmware has no keys yet. systemd-boot enrols the image's.
// Then updates and rollbacks under Secure Boot. What attackers can do to it is in tamper-sealed.test.ts.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { flipEsp, type RawDisk, readEsp, writeEsp } from "./disk-edit.ts";
import { type DiskEntry, readMenu } from "./disk-menu.ts";
import { type Machine, startMachine } from "./machine.ts";
import { ensureSealedDisk, ensureSealedPair, finishStart } from "./sealed-pair.ts";
import { namesDeployment, tryTampered } from "./tamper.ts";

const isLong = process.env["TEST_ALL"] === "1";
const slowMs = 900_000;

let disk: RawDisk;

beforeAll(async () => {
  disk = await ensureSealedDisk(console.log);
});

/** What `bootc status` says about trust. */
async function readTrust(machine: Machine) {
  const { status } = JSON.parse(await machine.must("bootc status --format json"));
  return { machine: status.trust, booted: status.booted.trust, composefs: status.booted.composefs };
}

async function expectSealed(machine: Machine): Promise<void> {
  expect(await machine.must("cat /sys/kernel/security/lockdown")).toContain("[integrity]");
  const trust = await readTrust(machine);
  expect(trust.machine).toMatchObject({ secureBoot: "enabled" });
  expect(trust.booted).toMatchObject({ mode: "sealed", sealed: true, verity: "enforced" });
  expect(trust.composefs).toMatchObject({ bootType: "Uki", missingVerityAllowed: false });
  const cmdline = await machine.must("cat /proc/cmdline");
  expect(cmdline).toContain(`composefs=${trust.composefs.verity}`);
  expect(cmdline).not.toContain("root=");
}

describe("a sealed image on a machine without keys", () => {
  let machine: Machine;

  beforeAll(async () => {
    machine = await startMachine({
      name: "sealed",
      boot: { kind: "uefi", secureBoot: "setup" },
      disks: [{ id: "disk", path: disk.path, mode: "overlay" }],
    });
    await machine.waitReady(slowMs);
  });
  afterAll(() => machine?.[Symbol.asyncDispose]());

  it("enrols its keys by itself and starts under Secure Boot, sealed", async () => {
    // The first start only enrols; the machine then restarts into this one.
    expect(await machine.must("bootctl status 2>/dev/null | grep 'Secure Boot:'")).toMatch(
      /enabled \(user\)/,
    );
    await finishStart(machine);
    await expectSealed(machine);
  });

  it("refuses kernel arguments that it could not pass on, and says what to do", async () => {
    const { code, output } = await machine.run("bootc kargs --append quiet");
    expect([code, output.trim().split("\n").length]).toEqual([1, 1]);
    expect(output).toMatch(/sealed|unified kernel/);
  });
});

it("a sealed kernel with a changed byte is not started", async () => {
  const told = await tryTampered(
    disk,
    async (copy) => {
      await writeEsp(copy, "/loader/loader.conf", "timeout 0\n");
      const uki = (await readMenu(copy))[0]!.uki!;
      await flipEsp(copy, uki, (await readEsp(copy, uki)).indexOf("composefs=") + 20);
    },
    { name: "sealed alone", secureBoot: "enforcing", until: /No bootable option[^\n]*\n/ },
  );
  expect(told.lines.join("\n")).toMatch(
    /Error loading [^\n]*(?:Access denied|Security violation)/i,
  );
  expect(told.cmdlines).toEqual([]);
});

describe.runIf(isLong)("a sealed machine after an update", () => {
  let machine: Machine;

  beforeAll(async () => {
    const pair = await ensureSealedPair(console.log);
    machine = await startMachine({
      name: "sealed-updated",
      boot: { kind: "uefi", secureBoot: "enforcing" },
      disks: [{ id: "disk", path: pair.path, mode: "overlay" }],
    });
    await machine.waitReady(slowMs);
  });
  afterAll(() => machine?.[Symbol.asyncDispose]());

  it("runs the new version, sealed as well, and its entry is not counted any more", async () => {
    await finishStart(machine);
    expect(await machine.must("cat /usr/lib/bootc-demo/version")).toBe("2");
    await expectSealed(machine);
    const entries = await machine.must(
      "mkdir -p /run/esp && mount /dev/disk/by-partlabel/esp /run/esp && ls /run/esp/loader/entries && umount /run/esp",
    );
    expect(entries.split("\n")).toHaveLength(2);
    expect(entries).not.toContain("+");
  });

  it("starts an older signed deployment that is put back: only dbx ends that", async () => {
    const pair = await ensureSealedPair(console.log);
    const [newer, older] = (await readMenu(pair)) as [DiskEntry, DiskEntry];
    const swap = async (copy: RawDisk) => {
      await writeEsp(copy, "/loader/loader.conf", "timeout 0\n");
      await writeEsp(copy, newer.uki!, await readEsp(pair, older.uki!));
      await writeEsp(copy, older.uki!, await readEsp(pair, newer.uki!));
    };
    const mounted = /prepare-root: mounted [^\n]*\n/;
    const options = { name: "sealed replay", secureBoot: "enforcing", until: mounted } as const;
    const told = await tryTampered(pair, swap, options);
    expect(namesDeployment(told.cmdlines[0], older.id)).toBe(true);
  });

  it("rolls back to the sealed version before, and forward again", async () => {
    for (const version of ["1", "2"]) {
      await machine.must("bootc rollback", { timeoutMs: slowMs });
      await machine.reboot(slowMs);
      await finishStart(machine);
      expect(await machine.must("cat /usr/lib/bootc-demo/version")).toBe(version);
      await expectSealed(machine);
    }
  });
});
