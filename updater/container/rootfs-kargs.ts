// The kernel arguments that an unpacked image brings: usr/lib/bootc/kargs.d (bootc.md 3.1), for this machine's
// architecture.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";
import type { Cmdline } from "../../shared/format/kargs/cmdline.ts";
import { mergeKargsFiles, rustArchitecture } from "../../shared/format/kargs/kargs-d.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";

const DIRECTORY = "usr/lib/bootc/kargs.d";
const MAX_FILE_BYTES = 1 << 20;

/** FormatError when a file cannot be understood. */
export function readRootfsKargs(rootfs: string): Cmdline {
  const directory = join(rootfs, DIRECTORY);
  const files = new Map<string, string>();
  for (const name of list(directory)) {
    const text = readSmallText(join(directory, name), MAX_FILE_BYTES);
    if (text !== null) files.set(name, text);
  }
  return mergeKargsFiles(files, rustArchitecture(process.arch));
}

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory).filter((name) => name.endsWith(".toml"));
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}
