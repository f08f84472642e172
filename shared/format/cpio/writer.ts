// Archives for an initramfs: cpio in the format "newc" (kernel Documentation/driver-api/early-userspace/
// buffer-format.rst; cpio(5) "New ASCII Format"). Owner root, times zero, numbers in order: the same files give
// the same bytes.

import { FormatError } from "../../error.ts";
import { S_IFDIR, S_IFREG } from "../tree/node.ts";

export interface CpioFile {
  /** Without a slash at the beginning; its directories come into the archive with it. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly content: Iterable<Uint8Array>;
}

const TRAILER = "TRAILER!!!";
const ALIGNMENT = 4;
const MAX_FILE_BYTES = 0xffffffff;

/** The archive in pieces, its length a multiple of 4. FormatError when a file has another size than it says. */
export function* writeCpio(files: readonly CpioFile[]): Generator<Uint8Array> {
  let inode = 0;
  const directories = new Set<string>();
  for (const file of files) {
    for (const directory of parentsOf(file.path)) {
      if (directories.has(directory)) continue;
      directories.add(directory);
      yield encodeHeader({ inode: ++inode, mode: S_IFDIR | 0o755, links: 2, size: 0 }, directory);
    }
    const { mode, sizeBytes: size } = file;
    yield encodeHeader({ inode: ++inode, mode: S_IFREG | mode, links: 1, size }, file.path);
    yield* passContent(file);
    yield new Uint8Array(paddingBytes(size));
  }
  yield encodeHeader({ inode: 0, mode: 0, links: 1, size: 0 }, TRAILER);
}

function* passContent({ path, sizeBytes, content }: CpioFile): Generator<Uint8Array> {
  let done = 0;
  for (const chunk of content) {
    done += chunk.length;
    if (done > sizeBytes) break;
    yield chunk;
  }
  if (done === sizeBytes && sizeBytes <= MAX_FILE_BYTES) return;
  throw new FormatError("bad-value", `"${path}" has not the ${sizeBytes} bytes it should have`);
}

function parentsOf(path: string): string[] {
  const names = path.split("/").slice(0, -1);
  return names.map((_, index) => names.slice(0, index + 1).join("/"));
}

interface CpioNumbers {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly size: number;
}

function encodeHeader({ inode, mode, links, size }: CpioNumbers, path: string): Uint8Array {
  const name = Buffer.from(`${path}\0`, "utf8");
  // inode, mode, uid, gid, links, time, size, device (2), special device (2), length of the name, checksum
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(
    `070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("")}`,
  );
  const padding = Buffer.alloc(paddingBytes(header.length + name.length));
  return Buffer.concat([header, name, padding]);
}

function paddingBytes(size: number): number {
  return (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT;
}
