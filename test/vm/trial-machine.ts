// A machine with version 1 running and version 2 staged, saved: every test of a failing start goes on from there.
// Invariants: the entry of version 2 has one try only, so that one failed start is enough; the machine has QEMU's
// i6300esb watchdog; what makes version 2 fail is put into /etc, which goes along.

import assert from "node:assert/strict";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { ensureInstalledDisk, ensureMedia } from "./installed-disk.ts";
import { keepEvidence } from "./keep-evidence.ts";
import { type Machine, resumeMachine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import { readState, type SavedState } from "./saved-state.ts";

const slowMs = 900_000;
const memoryMb = 1024;
const extraArgs = ["-device", "i6300esb"];
/** Where the entries are, mounted for one command only. */
const withEsp = (command: string) =>
  `mkdir -p /run/esp && mount /dev/disk/by-partlabel/esp /run/esp && { (cd /run/esp/loader && ${command}); code=$?; umount /run/esp; exit $code; }`;

/** Held before finalizing, as an administrator or a power cut could: one try instead of three. */
const setup = [
  "systemctl is-system-running --wait",
  "mkdir -p /var/mnt/usb && mount -o ro /dev/disk/by-id/virtio-stick2 /var/mnt/usb",
  "bootc switch --quiet --transport oci /var/mnt/usb/os.oci",
  withEsp("cd entries.staged && f=$(ls *+3.conf) && mv $f $(basename $f +3.conf)+1.conf"),
  "sync",
];

export async function ensureTrialState(): Promise<SavedState> {
  const { v1, v2 } = await ensureProductImages(console.log);
  const disk = await ensureInstalledDisk(v1, { ...silentNarrator, progress: console.log });
  const media = await ensureMedia(v2);
  const key = cacheKey("trial 1", disk, media, setup, memoryMb, extraArgs);
  const dir = await cachedDir(join(cacheDir, "vm", `trial-${key}`), async (path) => {
    await using machine = await startMachine({
      name: "trial-first",
      boot: { kind: "uefi" },
      disks: [
        { id: "disk", path: disk, mode: "overlay" },
        { id: "stick2", path: media, mode: "read" },
      ],
      memoryMb,
      extraArgs,
    });
    await keepEvidence(machine, async () => {
      await machine.waitReady(slowMs);
      for (const command of setup) await machine.must(command, { timeoutMs: slowMs });
    });
    await machine.saveTo(path);
  });
  return await readState(dir);
}

/** Goes on from the state; `name` is for logs. */
export function startTrial(state: SavedState, name: string): Promise<Machine> {
  return resumeMachine(state, `trial-${name}`);
}

/** Puts a unit into /etc that version 2 runs when it starts, and version 1 does not. `early`: as soon as systemd can. */
export async function addUnit(
  machine: Machine,
  command: string,
  { early = false, unit = "" },
): Promise<void> {
  const order = early ? "DefaultDependencies=no\nBefore=sysinit.target" : "";
  const text = `[Unit]
ConditionKernelCommandLine=demo.version=2
${order}
${unit}
[Service]
Type=oneshot
ExecStart=/bin/sh -c '${command}'
[Install]
WantedBy=${early ? "sysinit" : "multi-user"}.target
`;
  await machine.must(`cat > /etc/systemd/system/fault.service <<'END'\n${text}END`);
  await machine.must("systemctl enable --quiet fault.service");
}

/** Names of the live entries. */
export async function listEntries(machine: Machine): Promise<string[]> {
  return (await machine.must(withEsp("ls entries"))).split("\n");
}

/** Restarts into version 2, which fails, and waits for version 1, whole. */
export async function failAndFallBack(machine: Machine): Promise<void> {
  const console = machine.waitForConsole(/demo\.version=2[\s\S]*demo\.version=1/, slowMs);
  await machine.must("systemctl --no-block reboot");
  await console;
  // Version 2 may have answered before it failed; what comes now is version 1.
  await machine.waitNextBoot(slowMs);
  assert.match(await machine.must("cat /proc/cmdline"), /demo\.version=1/);
  await machine.must("systemctl is-system-running --wait", { timeoutMs: slowMs });
}
