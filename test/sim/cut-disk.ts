// The disk of the power-cut tests and its write log: a partition table, vfat (the ESP), ext4 (the root) and a
// partition for marks; and, replaying the log, what each moment left in them.

import { createHash } from "node:crypto";
import { formatMenu } from "./crash-lab.ts";
import { type FatTree, readFat } from "./fat-reader.ts";
import type { LoggedRequest } from "./write-log.ts";

const MIB = 1024 * 1024;
const SECTOR_BYTES = 512;

export interface Partition {
  readonly offset: number;
  readonly sizeBytes: number;
}

/** FAT32 begins at 65525 clusters, here of 512 bytes. */
export const PARTITIONS = {
  esp: { offset: MIB, sizeBytes: 40 * MIB },
  root: { offset: 41 * MIB, sizeBytes: 96 * MIB },
  marks: { offset: 137 * MIB, sizeBytes: MIB },
} as const satisfies Record<string, Partition>;
export const DISK_MEGABYTES = 139;

/** A master boot record, as the kernel reads partitions from. */
export function makePartitionTable(): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  const types = [0xef, 0x83, 0x83];
  for (const [index, { offset, sizeBytes }] of Object.values(PARTITIONS).entries()) {
    const at = 446 + index * 16;
    sector[at + 4] = types[index]!;
    sector.writeUInt32LE(offset / SECTOR_BYTES, at + 8);
    sector.writeUInt32LE(sizeBytes / SECTOR_BYTES, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

export function isWithin({ offset, sizeBytes }: Partition, request: LoggedRequest): boolean {
  return request.offset >= offset && request.offset < offset + sizeBytes;
}

/** Bytes of a partition in an image of the disk. */
export function partitionOf(disk: Uint8Array, { offset, sizeBytes }: Partition): Uint8Array {
  return disk.subarray(offset, offset + sizeBytes);
}

/** The number that a write to the marks carries; null for other writes. */
export function readMark(request: LoggedRequest): number | null {
  if (request.data.length < SECTOR_BYTES || !isWithin(PARTITIONS.marks, request)) return null;
  const bytes = Buffer.from(request.data.buffer, request.data.byteOffset, request.data.length);
  return bytes.toString("latin1", 0, 4) === "MARK" ? bytes.readUInt32LE(4) : null;
}

export interface EspState {
  readonly tree: FatTree;
  /** As the program in the guest writes it. */
  readonly menu: string;
  /** Kernels that entries name and that are not there as they should be, and damage to what is read. */
  readonly faults: readonly string[];
}

/**
 * A rename on vfat changes two places of the directory, which may be in two sectors: in between the file has both
 * names. It is whole under each of them (docs/reliability.md says what comes of it).
 */
const HALF_RENAMED = /^(\S*\/)(\S+) shares cluster \d+ with \1\.\2\.partial-/;
/** Clusters of 512 bytes only: a directory that nobody reads yet grows across two sectors of the table. */
const GROWING = "loader/entries.staged/ has a free cluster";

/** What a boot loader finds; `null` menu: there is no directory of entries. */
export function readEsp(disk: Uint8Array): EspState {
  const tree = readFat(partitionOf(disk, PARTITIONS.esp));
  const prefix = "loader/entries/";
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("utf8");
  const names = [...tree.files.keys()].filter((path) => path.startsWith(prefix));
  const menu = names
    .filter((path) => path.length > prefix.length)
    .sort()
    .map((path) => [path.slice(prefix.length), text(tree.files.get(path)!)] as const);
  const entries = menu.filter(([name]) => name.endsWith(".conf"));
  const faults = entries.flatMap(([name, entry]) => findKernelFaults(tree, name, entry));
  if (entries.length === 0) faults.push("nothing boots");
  faults.push(...tree.faults.filter((fault) => !HALF_RENAMED.test(fault) && fault !== GROWING));
  const digest = createHash("sha256").update(formatMenu(menu)).digest("hex").slice(0, 16);
  return { tree, menu: digest, faults };
}

function findKernelFaults(tree: FatTree, name: string, entry: string): string[] {
  const version = /^version (.*)$/m.exec(entry)?.[1];
  const expected = { linux: `kernel ${version}`.repeat(40), initrd: "initramfs ".repeat(50) };
  return Object.entries(expected).flatMap(([key, content]) => {
    const path = new RegExp(`^${key} /(.*)$`, "m").exec(entry)?.[1] ?? "";
    const bytes = tree.files.get(path);
    const isRight = bytes !== undefined && Buffer.from(bytes).toString("latin1") === content;
    return isRight ? [] : [`${name}: "${path}" is not whole`];
  });
}
