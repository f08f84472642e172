// Changing a disk from outside, as somebody with a screwdriver would: files of the ESP by mtools, files of
// the ext4 root by debugfs, and single bytes of either. Nothing is mounted.
// Invariants: disks are raw; the first partition is the ESP (vfat), the second the root (ext4); paths
// begin at the file system's root. Files with fs-verity are changed below the file system only.

import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { imageFormat } from "./disks.ts";
import { runTool } from "./tools-root.ts";

export type RawDisk = {
  readonly path: string;
  readonly esp: number;
  readonly root: number;
};

const sector = 512;

/** A raw copy (sparse) of a disk. */
export async function copyDisk(source: string, path: string): Promise<RawDisk> {
  return convertDisk(source, path);
}

/** The same of a disk whose machine is stopped (QMP `stop`) and so still holds QEMU's lock on it. */
export async function copyStoppedDisk(source: string, path: string): Promise<RawDisk> {
  return convertDisk(source, path, "--force-share");
}

async function convertDisk(source: string, path: string, ...options: string[]): Promise<RawDisk> {
  const formats = ["-f", imageFormat(source), "-O", "raw"];
  await runTool(["qemu-img", "convert", ...options, ...formats, source, path]);
  return openDisk(path);
}

export async function openDisk(path: string): Promise<RawDisk> {
  const table = JSON.parse(await runTool(["sfdisk", "--json", path]));
  const [esp, root] = table.partitiontable.partitions.map(
    (each: { start: number }) => each.start * sector,
  );
  return { path, esp, root };
}

const espImage = (disk: RawDisk) => `${disk.path}@@${disk.esp}`;
const mtools = (words: string) => ["sh", "-c", `MTOOLS_SKIP_CHECK=1 ${words}`, "sh"];

/** Every file of the ESP, as `/loader/loader.conf`. */
export async function listEsp(disk: RawDisk): Promise<string[]> {
  const text = await runTool([...mtools('mdir -i "$1" -/ -b ::'), espImage(disk)]);
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.endsWith("/"))
    .map((line) => line.replace(/^::/, ""));
}

export async function readEsp(disk: RawDisk, path: string): Promise<Buffer> {
  return withFile(disk, async (file) => {
    await runTool([...mtools('mcopy -n -o -i "$1" "::$2" "$3"'), espImage(disk), path, file]);
    return readFile(file);
  });
}

/** Writes a file, and the directories it lies in. */
export async function writeEsp(disk: RawDisk, path: string, bytes: Uint8Array | string) {
  const parents = path.split("/").slice(1, -1);
  const script = [
    'image=$1 to=$2 from=$3; shift 3; dir=""',
    'for name; do dir="$dir/$name"; mmd -D s -i "$image" "::$dir" 2>/dev/null || true; done',
    'mcopy -D o -o -i "$image" "$from" "::$to"',
  ].join("; ");
  await withFile(disk, async (file) => {
    await writeFile(file, bytes);
    const run = ["sh", "-c", `export MTOOLS_SKIP_CHECK=1; ${script}`, "sh"];
    await runTool([...run, espImage(disk), path, file, ...parents]);
  });
}

export async function removeEsp(disk: RawDisk, path: string) {
  await runTool([...mtools('mdeltree -i "$1" "::$2"'), espImage(disk), path]);
}

/** Changes one byte of a file of the ESP. */
export async function flipEsp(disk: RawDisk, path: string, offset: number) {
  const bytes = await readEsp(disk, path);
  if (offset >= bytes.length) throw new Error(`${path} has ${bytes.length} bytes only`);
  bytes[offset]! ^= 0xff;
  await writeEsp(disk, path, bytes);
}

const rootImage = (disk: RawDisk) => `${disk.path}?offset=${disk.root}`;

/** One debugfs request; an error message is an error. */
async function debugfs(disk: RawDisk, request: string, write = false): Promise<string> {
  const script = 'debugfs $2 -R "$3" "$1" 2>&1 | grep -v "^debugfs [0-9]"; true';
  const words = ["sh", "-c", script, "sh", rootImage(disk), write ? "-w" : "", request];
  const text = await runTool(words);
  if (/not found|File exists|Bad magic|Usage:|Ext2 directory|while /i.test(text)) {
    throw new Error(`debugfs ${request}: ${text}`);
  }
  return text;
}

export async function readRoot(disk: RawDisk, path: string): Promise<Buffer> {
  return withFile(disk, async (file) => {
    await debugfs(disk, `dump ${path} ${file}`);
    return readFile(file);
  });
}

/** Writes or replaces a regular file of a directory that is there. */
export async function writeRoot(disk: RawDisk, path: string, bytes: Uint8Array | string) {
  await withFile(disk, async (file) => {
    await writeFile(file, bytes);
    await debugfs(disk, `rm ${path}`, true).catch(() => "");
    await debugfs(disk, `write ${file} ${path}`, true);
  });
}

/** Changes one byte of a file of the root, below the file system: also where fs-verity protects it. */
export async function flipRoot(disk: RawDisk, path: string, offset: number) {
  const block = Number(await debugfs(disk, `bmap ${path} ${Math.floor(offset / 4096)}`));
  if (!(block > 0)) throw new Error(`${path} has no block at ${offset}`);
  flipByte(disk.path, disk.root + block * 4096 + (offset % 4096));
}

function flipByte(path: string, position: number) {
  const fd = openSync(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, position);
    byte[0]! ^= 0xff;
    writeSync(fd, byte, 0, 1, position);
  } finally {
    closeSync(fd);
  }
}

let files = 0;

/** A file beside the disk, where the tools root finds it, too. */
async function withFile<T>(disk: RawDisk, work: (path: string) => Promise<T>): Promise<T> {
  const path = `${disk.path}.file-${++files}`;
  try {
    return await work(path);
  } finally {
    await rm(path, { force: true });
  }
}
