// The EFI system partition, mounted where nobody sees it, for the version floor that lies there (decision 0019).
//
// Which partition: the one that the boot loader says it came from; without one, the only EFI system partition of
// the root's disks. No udev is needed: sysfs leads from the root to its disks, their tables are read here.
// Nothing found here is believed: what counts is the signature of the document.

import { existsSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isErrno } from "../shared/error.ts";
import {
  ESP_TYPE,
  type GptPartition,
  parseGptEntries,
  parseGptHead,
} from "../shared/format/gpt/table.ts";
import { MOUNT_ATTR, O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, pread, readAll } from "../shared/sys/file.ts";
import {
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
} from "../shared/sys/mount.ts";
import { findDeviceNumber } from "./volatile-root.ts";

const LOADER_PARTITION = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const VARIABLE_LIMIT_BYTES = 1024;
const BLOCK_SIZES_BYTES = [512, 4096];
const MAX_TABLE_BYTES = 1 << 20;
/** A disk below a RAID below LUKS below LVM is four. */
const MAX_LAYERS = 16;

/** A mount that is attached nowhere and goes with its descriptor. */
export interface EspMount extends Disposable {
  /** Leads into it as long as it is open. */
  readonly path: string;
}

/** Null when this machine has none. SyscallError when it cannot be mounted. */
export function mountEsp(sysroot: Fd, sysrootPath: string): EspMount | null {
  const device = findEsp(sysroot, sysrootPath);
  if (device === null) return null;
  const mount = mountReadOnly(device);
  return { path: `/proc/self/fd/${mount.number}`, [Symbol.dispose]: () => mount.close() };
}

function mountReadOnly(device: string): Fd {
  try {
    return mountFat(device, ["ro"]);
  } catch (error) {
    // Mounted by somebody who writes: then this is one more, read-only, mount of the same.
    if (!isErrno(error, "EBUSY")) throw error;
    return mountFat(device, []);
  }
}

function mountFat(device: string, flags: readonly string[]): Fd {
  using context = fsopen("vfat");
  fsconfigString(context, "source", device);
  for (const flag of flags) fsconfigFlag(context, flag);
  fsconfigCreate(context);
  const { NODEV, NOEXEC, NOSUID, RDONLY } = MOUNT_ATTR;
  return fsmount(context, RDONLY | NODEV | NOEXEC | NOSUID);
}

/** The partition's device node. */
function findEsp(sysroot: Fd, sysrootPath: string): string | null {
  const wanted = readLoaderPartition();
  const link = wanted === null ? null : `/dev/disk/by-partuuid/${wanted}`;
  if (link !== null && existsSync(link)) return link;
  const number = findDeviceNumber(sysroot, sysrootPath);
  const disks = number === null ? [] : findDisks(`/sys/dev/block/${number}`);
  const partitions = disks.flatMap((disk) =>
    readTable(disk).map((partition) => ({ ...partition, disk })),
  );
  const named = partitions.find(({ id }) => id === wanted);
  const esps = partitions.filter(({ type }) => type === ESP_TYPE);
  const found = named ?? (esps.length === 1 ? esps[0] : undefined);
  return found === undefined ? null : findPartition(found.disk, found.number);
}

/** UUID in lower case of the partition that the boot loader was started from (systemd's Boot Loader Interface). */
function readLoaderPartition(): string | null {
  try {
    using context = fsopen("efivarfs");
    fsconfigCreate(context);
    // A mount of its own: the system's may not be there yet.
    using variables = fsmount(context, MOUNT_ATTR.RDONLY);
    using file = openat(variables, LOADER_PARTITION, O.RDONLY);
    // Four bytes of attributes, then UTF-16LE.
    const bytes = Buffer.from(readAll(file, VARIABLE_LIMIT_BYTES)).subarray(4);
    const uuid = bytes.toString("utf16le").replace(/\0.*$/s, "").toLowerCase();
    return GUID.test(uuid) ? uuid : null;
  } catch (error) {
    if (isErrno(error, "ENODEV", "ENOENT", "EOPNOTSUPP", "EPERM")) return null;
    throw error;
  }
}

/** Directories in sysfs of the disks below a block device. */
function findDisks(device: string, layers = 0): readonly string[] {
  if (layers > MAX_LAYERS || !existsSync(device)) return [];
  const path = realpathSync(device);
  if (existsSync(join(path, "partition"))) return [dirname(path)];
  const members = existsSync(join(path, "slaves")) ? readdirSync(join(path, "slaves")) : [];
  if (members.length === 0) return [path];
  return [...new Set(members.flatMap((name) => findDisks(join(path, "slaves", name), layers + 1)))];
}

function readTable(disk: string): readonly GptPartition[] {
  const node = join("/dev", basename(disk));
  if (!existsSync(node)) return [];
  using fd = openat(null, node, O.RDONLY);
  for (const blockBytes of BLOCK_SIZES_BYTES) {
    const head = parseGptHead(readAt(fd, blockBytes, blockBytes), blockBytes);
    if (head === null) continue;
    const size = Math.min(head.count * head.entryBytes, MAX_TABLE_BYTES);
    return parseGptEntries(readAt(fd, head.entriesAtBytes, size), head);
  }
  return [];
}

function readAt(fd: Fd, offset: number, sizeBytes: number): Uint8Array {
  const buffer = new Uint8Array(sizeBytes);
  return buffer.subarray(0, pread(fd, buffer, offset));
}

function findPartition(disk: string, number: number): string | null {
  const name = readdirSync(disk).find((entry) => {
    const file = join(disk, entry, "partition");
    return existsSync(file) && Number(readFileSync(file, "utf8")) === number;
  });
  return name === undefined ? null : join("/dev", name);
}
