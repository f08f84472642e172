// A virtual machine of the rig: start, talk to, reboot, snapshot, stop.
// Invariants: everything waits for an event (a line, a connection, the end of QEMU), with a limit
// only as a safety net; a failure names the machine, the log and the disks, which are then kept;
// only the QEMU started here is ever signalled, and it does not outlive this process.

import { basename } from "node:path";
import type { Progress } from "../support/run.ts";
import { accelerator } from "./accel.ts";
import type { CommandResult } from "./agent.ts";
import type { Disk } from "./disks.ts";
import {
  createMachineFiles,
  type MachineFiles,
  type PlacedDisk,
  placeDisk,
  placeUefiVars,
} from "./machine-files.ts";
import { guestCommands, type Watch, watchMachine } from "./machine-watch.ts";
import { type Boot, blockdev, hotplugPorts, qemuArgs } from "./qemu-args.ts";
import { type Qemu, startQemu } from "./qemu-process.ts";
import { openQmp, type Qmp } from "./qmp.ts";
import { loadState, type SavedState, saveState } from "./saved-state.ts";
import { startTpm, type Tpm } from "./tpm.ts";

export type MachineOptions = {
  readonly name: string;
  readonly boot: Boot;
  readonly disks: readonly Disk[];
  readonly memoryMb?: number;
  readonly cpus?: number;
  /** Whether the shell is put into the guest (default); without it only the console speaks. */
  readonly agent?: boolean;
  /** UEFI variables of an earlier machine to start with. */
  readonly uefiVars?: string;
  /** A TPM: a new one, or one that goes on from the state of another. Not with `saveTo`. */
  readonly tpm?: { readonly saved?: string };
  readonly extraArgs?: readonly string[];
  readonly onLine?: Progress | undefined;
};

export type Machine = AsyncDisposable & {
  readonly name: string;
  readonly pid: number;
  readonly dir: string;
  readonly qmp: Qmp;
  /** Its UEFI variables (qcow2), when it has some. */
  readonly uefiVars: string | undefined;
  readonly tpmState: string | undefined;
  /** Waits until the shell answers in a boot that was not awaited before. */
  waitReady(limitMs?: number): Promise<void>;
  /** Waits for the shell of a boot after the last one that answered. */
  waitNextBoot(limitMs?: number): Promise<void>;
  run(command: string, options?: { timeoutMs?: number }): Promise<CommandResult>;
  /** As `run`, but a non-zero exit code is an error. Returns the output, trimmed. */
  must(command: string, options?: { timeoutMs?: number }): Promise<string>;
  /** Reboots from inside and waits for the next boot's shell. */
  reboot(limitMs?: number): Promise<void>;
  /** Restarts userspace from inside and waits for the next shell; the kernel goes on. */
  softReboot(limitMs?: number, command?: string): Promise<void>;
  waitForConsole(pattern: RegExp, limitMs?: number): Promise<RegExpExecArray>;
  sendConsole(text: string): void;
  consoleText(): string;
  /** Resets like the button on the case. */
  reset(): Promise<void>;
  powerOff(limitMs?: number): Promise<void>;
  /** Cuts the power. */
  kill(): Promise<void>;
  /** Resolves when QEMU has ended by itself. */
  waitExit(limitMs?: number): Promise<void>;
  addDisk(disk: Disk): Promise<void>;
  saveSnapshot(name: string): Promise<void>;
  loadSnapshot(name: string): Promise<void>;
  /** Saves memory and disks to `dir` and ends the machine; see `resumeMachine`. */
  saveTo(dir: string): Promise<void>;
  /** Keeps log and disks after disposal, as after a failure. */
  keep(): void;
};

const defaultMemoryMb = 1024;

/** Starts a machine; it is running (but not ready) when this resolves. */
export function startMachine(options: MachineOptions): Promise<Machine> {
  return launch(options, undefined);
}

/** Goes on from a state that `saveTo` saved, any number of times. */
export function resumeMachine(state: SavedState, name: string): Promise<Machine> {
  return launch({ ...state.options, name }, state);
}

async function launch(options: MachineOptions, state: SavedState | undefined): Promise<Machine> {
  const kind = await accelerator(options.boot, options.onLine);
  const files = await createMachineFiles(options.name);
  let qemu: Qemu | undefined;
  let tpm: Tpm | undefined;
  try {
    const disks = await Promise.all(options.disks.map((disk) => placeDisk(files, disk)));
    const uefiVars =
      options.boot.kind === "uefi"
        ? await placeUefiVars(files, options.uefiVars, options.boot.secureBoot)
        : undefined;
    tpm = options.tpm && (await startTpm(files, options.tpm.saved));
    const { consoleLog } = files;
    const incoming = state !== undefined;
    const { memoryMb = defaultMemoryMb, cpus = 2, agent = true, boot } = options;
    const extraArgs = [...(tpm?.args ?? []), ...(options.extraArgs ?? [])];
    const guest = { accelerator: kind, memoryMb, cpus, boot, agent, extraArgs };
    qemu = await startQemu(files, (sockets) =>
      qemuArgs({ ...guest, disks, uefiVars, sockets, consoleLog, incoming }),
    );
    const qmp = await openQmp(qemu.qmp);
    if (state) await loadState(qmp, state);
    const watch = watchMachine({ name: options.name, files, qemu, resumed: incoming });
    return assemble({ options, files, qemu, qmp, disks, uefiVars, tpm, watch });
  } catch (cause) {
    await tpm?.stop();
    await files.clean(false);
    if (!qemu) throw cause;
    // Its own words, when it ended by itself, say more than a closed connection.
    qemu.kill();
    throw new Error(`Cannot start ${options.name}: QEMU: ${await qemu.exited}`, { cause });
  }
}

type Parts = {
  readonly options: MachineOptions;
  readonly files: MachineFiles;
  readonly qemu: Qemu;
  readonly qmp: Qmp;
  readonly disks: readonly PlacedDisk[];
  readonly uefiVars: string | undefined;
  readonly tpm: Tpm | undefined;
  readonly watch: Watch;
};

function assemble(parts: Parts): Machine {
  const { options, files, qemu, qmp, watch } = parts;
  let addedDisks = 0;
  const guest = guestCommands(watch);
  return {
    name: options.name,
    pid: qemu.pid,
    dir: files.dir,
    qmp,
    uefiVars: parts.uefiVars,
    tpmState: parts.tpm?.stateDir,
    ...guest,
    waitForConsole: (pattern, limitMs) => watch.waitForConsole(pattern, limitMs),
    sendConsole: (text) => void qemu.console.write(text),
    consoleText: () => watch.consoleText(),
    async reset() {
      // QEMU 10 aborts now and then when its TCG resets processors that run (iotlb_to_section).
      for (const command of ["stop", "system_reset", "cont"]) await qmp.execute(command);
    },
    async kill() {
      qemu.kill();
      await watch.ended;
    },
    async addDisk(disk) {
      await plugDisk(qmp, await placeDisk(files, disk), addedDisks++);
      await guest.must(`udevadm wait --timeout=60 /dev/disk/by-id/virtio-${disk.id}`);
    },
    saveSnapshot: (name) => monitor(qmp, `savevm ${name}`),
    loadSnapshot: (name) => monitor(qmp, `loadvm ${name}`),
    async saveTo(dir) {
      if (parts.tpm) throw new Error(`${options.name}: a machine with a TPM cannot be saved`);
      const own = parts.disks.filter((_, index) => options.disks[index]!.mode === "overlay");
      const vars = parts.uefiVars === undefined ? [] : [parts.uefiVars];
      const moved = [...own.map((disk) => disk.path), ...vars];
      await saveState(qmp, dir, () => watch.ended, moved, savedOptions(parts));
    },
    keep: watch.keep,
    async [Symbol.asyncDispose]() {
      qemu.kill();
      await watch.ended;
      await parts.tpm?.stop();
      await files.clean(watch.kept());
    },
  };
}

/** How to start this machine again from its own files, which are named without a directory. */
function savedOptions({ options, disks, uefiVars }: Parts): MachineOptions {
  return {
    ...options,
    ...(uefiVars === undefined ? {} : { uefiVars: basename(uefiVars) }),
    disks: options.disks.map((disk, index) =>
      disk.mode === "overlay" ? { ...disk, path: basename(disks[index]!.path) } : disk,
    ),
  };
}

async function monitor(qmp: Qmp, line: string): Promise<void> {
  const text = await qmp.monitor(line);
  if (text !== "") throw new Error(`QEMU: ${line}: ${text}`);
}

async function plugDisk(
  qmp: Qmp,
  disk: { id: string; path: string; readOnly: boolean },
  port: number,
): Promise<void> {
  if (port >= hotplugPorts) throw new Error(`Only ${hotplugPorts} disks can be added`);
  const node = `disk-${disk.id}`;
  await qmp.execute("blockdev-add", blockdev(node, disk.path, disk.readOnly));
  const device = { driver: "virtio-blk-pci", drive: node, serial: disk.id, bus: `port${port}` };
  await qmp.execute("device_add", { ...device, id: `device-${disk.id}` });
}
