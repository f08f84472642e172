// QEMU's command line for a machine of the rig.
// Invariants: no default devices; disks are virtio-blk with a serial; empty PCI ports are there for
// disks that come later; the guest has no network unless asked for.

import { type Accelerator, acceleratorArgs } from "./accel.ts";
import { agentCredentials, agentPort } from "./agent.ts";
import { imageFormat } from "./disks.ts";
import type { PlacedDisk } from "./machine-files.ts";
import { type SecureBootMode, secureBootCode } from "./secure-boot.ts";

export type Boot =
  /** Through UEFI and whatever boot loader the disk has. */
  | { readonly kind: "uefi"; readonly secureBoot?: SecureBootMode }
  /** The kernel straight from a file. */
  | {
      readonly kind: "kernel";
      readonly kernel: string;
      readonly initrd?: string;
      readonly append: string;
    };

export type QemuSetup = {
  readonly accelerator: Accelerator;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly boot: Boot;
  readonly disks: readonly PlacedDisk[];
  readonly uefiVars: string | undefined;
  readonly agent: boolean;
  readonly sockets: { readonly qmp: string; readonly console: string; readonly agent: string };
  readonly consoleLog: string;
  /** Start from a saved state instead of from power-on. */
  readonly incoming: boolean;
  readonly extraArgs: readonly string[];
};

export const hotplugPorts = 6;

const firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd";
export const firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd";

export function qemuArgs(setup: QemuSetup): string[] {
  const { sockets } = setup;
  return [
    ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"],
    ["-machine", machineType(setup.boot), "-m", `${setup.memoryMb}`, "-smp", `${setup.cpus}`],
    acceleratorArgs(setup.accelerator),
    ["-chardev", `socket,id=qmp,path=${sockets.qmp}`, "-mon", "chardev=qmp,mode=control"],
    ["-chardev", `socket,id=console,path=${sockets.console},logfile=${setup.consoleLog}`],
    ["-serial", "chardev:console"],
    ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"],
    setup.agent ? agentArgs(sockets.agent) : [],
    firmwareArgs(setup),
    setup.disks.flatMap((disk, index) => diskArgs(disk, index)),
    Array.from({ length: hotplugPorts }, (_, port) => [
      "-device",
      `pcie-root-port,id=port${port},chassis=${port + 1},bus=pcie.0`,
    ]).flat(),
    setup.incoming ? ["-incoming", "defer"] : [],
    setup.extraArgs,
  ].flat();
}

function agentArgs(socket: string): string[] {
  const values = agentCredentials().map((value) => `value=${value}`);
  return [
    ...["-smbios", ["type=11", ...values].join(",")],
    ...["-device", "virtio-serial-pci", "-chardev", `socket,id=agent,path=${socket}`],
    ...["-device", `virtserialport,chardev=agent,name=${agentPort}`],
  ];
}

function firmwareArgs(setup: QemuSetup): string[] {
  if (setup.boot.kind === "kernel") {
    const initrd = setup.boot.initrd === undefined ? [] : ["-initrd", setup.boot.initrd];
    return ["-kernel", setup.boot.kernel, ...initrd, "-append", setup.boot.append];
  }
  const secure = isSecure(setup.boot);
  const code = secure ? secureBootCode : firmwareCode;
  return [
    // Only the firmware, in system management mode, may write the variables then.
    ...(secure ? ["-global", "driver=cfi.pflash01,property=secure,value=on"] : []),
    ...["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
    ...["-drive", `if=pflash,unit=1,format=qcow2,file=${setup.uefiVars}`],
  ];
}

const isSecure = (boot: Boot) => boot.kind === "uefi" && boot.secureBoot !== undefined;

function machineType(boot: Boot): string {
  return `q35,hpet=off${isSecure(boot) ? ",smm=on" : ""}`;
}

function diskArgs(disk: QemuSetup["disks"][number], index: number): string[] {
  return [
    "-blockdev",
    JSON.stringify(blockdev(`disk-${disk.id}`, disk.path, disk.readOnly, disk.log)),
    "-device",
    `virtio-blk-pci,drive=disk-${disk.id},serial=${disk.id},bootindex=${index + 1}${
      // Merged ones have up to 1024 pieces; with the log's own that is too many for one write, and ends in EIO.
      disk.log === undefined ? "" : ",request-merging=off"
    }`,
  ];
}

/** A block device node as QMP and `-blockdev` take it. */
export function blockdev(
  node: string,
  path: string,
  readOnly: boolean,
  log?: string,
): Record<string, unknown> {
  if (log !== undefined) return loggedBlockdev(node, path, log);
  return {
    driver: imageFormat(path),
    "node-name": node,
    "read-only": readOnly,
    discard: "unmap",
    // The host's page cache outlives a killed QEMU, which is all the durability tests need here.
    file: { driver: "file", filename: path, discard: "unmap", cache: { "no-flush": true } },
  };
}

/** Every write and flush goes to the disk and, in this order, to the log (of a file that exists). */
function loggedBlockdev(node: string, path: string, log: string): Record<string, unknown> {
  const file = (filename: string) => ({ driver: "file", filename, cache: { "no-flush": true } });
  return {
    driver: "blklogwrites",
    "node-name": node,
    file: { driver: imageFormat(path), file: file(path) },
    log: { driver: "raw", file: file(log) },
    "log-sector-size": 512,
    "log-super-update-interval": 1,
  };
}
