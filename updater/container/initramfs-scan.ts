// Looks into an initramfs: which files of interest it has, and what is in the small ones. It is one or more cpio
// archives, of which the last may be compressed (kernel buffer-format.rst); gzip and zstd are understood here.

import { FormatError } from "../../shared/error.ts";
import { type CpioEntry, CpioReader } from "../../shared/format/cpio/reader.ts";
import { decompress } from "../image/decompression.ts";

export type InitramfsCompression = "none" | "gzip" | "zstd" | "other";

export interface InitramfsFile {
  /** With the bits of its type. */
  readonly mode: number;
  /** Of a symlink its target; null when it was not kept. */
  readonly bytes: Uint8Array | null;
}

export interface InitramfsContents {
  readonly compression: InitramfsCompression;
  /** By path, without a slash at the beginning. */
  readonly files: ReadonlyMap<string, InitramfsFile>;
}

const MAX_KEPT_BYTES = 1 << 20;
const MAX_UNPACKED_BYTES = 4 * 2 ** 30;
const GZIP = [0x1f, 0x8b];
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd];

/**
 * Files below `directory` (e.g. "usr/lib/bootc/"), up to 1 MiB with their bytes; of two with one path the later, as
 * the kernel unpacks them. FormatError when an archive is malformed.
 */
export async function scanInitramfs(
  chunks: Iterable<Uint8Array>,
  directory: string,
): Promise<InitramfsContents> {
  const files = new Map<string, InitramfsFile>();
  const makeReader = () =>
    new CpioReader({
      wants: (entry) => noteFile(files, entry, directory),
      content: ({ path, mode }, bytes) => void files.set(path, { mode, bytes: bytes.slice() }),
    });
  const plain = makeReader();
  const iterator = chunks[Symbol.iterator]();
  for (let next = iterator.next(); next.done !== true; next = iterator.next()) {
    plain.write(next.value);
    if (plain.foreign === null) continue;
    const compression = detectCompression(plain.foreign);
    if (compression === "gzip" || compression === "zstd") {
      await readCompressed(plain.foreign, iterator, makeReader());
    }
    return { compression, files };
  }
  plain.finish();
  return { compression: "none", files };
}

/** Whether the content is wanted. */
function noteFile(
  files: Map<string, InitramfsFile>,
  { path, mode, sizeBytes }: CpioEntry,
  directory: string,
): boolean {
  if (!path.startsWith(directory)) return false;
  files.set(path, { mode, bytes: null });
  return sizeBytes <= MAX_KEPT_BYTES;
}

function detectCompression(bytes: Uint8Array): InitramfsCompression {
  const begins = (magic: readonly number[]) => magic.every((byte, index) => bytes[index] === byte);
  return begins(GZIP) ? "gzip" : begins(ZSTD) ? "zstd" : "other";
}

async function readCompressed(
  head: Uint8Array,
  rest: Iterator<Uint8Array>,
  reader: CpioReader,
): Promise<void> {
  async function* source() {
    yield head.slice();
    for (let next = rest.next(); next.done !== true; next = rest.next()) yield next.value.slice();
  }
  try {
    const options = { limitBytes: MAX_UNPACKED_BYTES, reusesChunks: true };
    for await (const chunk of decompress(source(), "The initramfs", options)) {
      reader.write(chunk);
      if (reader.foreign !== null) break;
    }
  } catch (error) {
    // What fills it up to the next multiple of 4 is no zstd frame.
    if (!(error instanceof FormatError) || !reader.isBetweenArchives) throw error;
  }
  if (reader.foreign === null) reader.finish();
}
