// `composefs-info [--basedir=PATH] [--filter=NAME]… COMMAND IMAGES…`: looking into images.

import { describeError, FormatError, isErrno, UsageError } from "../../shared/error.ts";
import { readErofs } from "../../shared/format/erofs/reader.ts";
import {
  type ByteString,
  byteStringToBytes,
  type DirectoryNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat } from "../../shared/sys/file.ts";
import { fstatat } from "../../shared/sys/stat.ts";
import { measureFiles } from "../composefs/file-digest.ts";
import { readImageFile } from "../composefs/image-file.ts";
import {
  collectPayloads,
  filterTree,
  formatFilteredDump,
  formatListing,
} from "../composefs/image-listing.ts";
import { parseWords } from "./getopt.ts";
import { writeErr, writeOut } from "./standard-stream.ts";

export const COMPOSEFS_INFO_USAGE = `Usage: composefs-info [--basedir=PATH] [--filter=NAME]... COMMAND IMAGES...
  ls                 names, link targets and object paths
  dump               dump file that mkcomposefs --from-file takes
  objects            paths of all objects
  missing-objects    those that are not below --basedir
  measure-file       fs-verity digests of the files given instead of images
  --filter=NAME      only this entry of the root; may be given more than once
`;

const OPTIONS = { basedir: "value", filter: "value" } as const;
const COMMANDS = ["ls", "dump", "objects", "missing-objects", "measure-file"];
const BATCH_CHARS = 1 << 16;

export function runComposefsInfo(argv: readonly string[]): number {
  const { options, operands } = parseWords(argv, OPTIONS);
  const [command, ...paths] = operands;
  const filters = options.filter(([name]) => name === "filter").map(([, value]) => value);
  const slashed = filters.find((name) => name.includes("/"));
  if (slashed !== undefined) {
    throw new UsageError("bad-value", `--filter takes a name, not the path "${slashed}"`);
  }
  if (command === undefined) throw new UsageError("missing", "No command specified");
  if (!COMMANDS.includes(command)) {
    throw new UsageError("bad-value", `Unknown command "${command}"`);
  }
  if (command === "measure-file") return printDigests(paths);
  const basedir = options.findLast(([name]) => name === "basedir")?.[1];
  using base = basedir === undefined ? null : openat(null, basedir, O.PATH | O.DIRECTORY);
  if (paths.length === 0) throw new UsageError("missing", "No image path specified");
  const names = filters.map(toByteString);
  if (command === "ls") {
    for (const path of paths) printLines(formatListing(filterTree(readTree(path), names)));
  } else if (command === "dump") {
    for (const path of paths) printLines(formatFilteredDump(readTree(path), names));
  } else {
    printObjects(paths, names, command === "objects" ? null : base);
  }
  return 0;
}

function readTree(path: string): DirectoryNode {
  const image = readImageFile(path);
  try {
    return readErofs(image, { dialect: "c" }).root;
  } catch (cause) {
    throw new FormatError("bad-value", `Failed to load "${path}"`, { path }, { cause });
  }
}

/** `lines` are byte strings. */
function printLines(lines: Iterable<ByteString>): void {
  let batch = "";
  for (const line of lines) {
    batch += line;
    if (batch.length < BATCH_CHARS) continue;
    writeOut(byteStringToBytes(batch));
    batch = "";
  }
  writeOut(byteStringToBytes(batch));
}

/** Each path once, sorted, over all images; with `base` only what is not there. Paths are not escaped. */
function printObjects(paths: readonly string[], names: readonly ByteString[], base: Fd | null) {
  const found = new Set<ByteString>();
  for (const path of paths) collectPayloads(filterTree(readTree(path), names), found);
  const wanted = [...found].sort();
  const shown = base === null ? wanted : wanted.filter((payload) => !isPresent(base, payload));
  printLines(shown.map((payload) => `${payload}\n`));
}

function isPresent(base: Fd, payload: ByteString): boolean {
  try {
    fstatat(base, byteStringToBytes(payload.replace(/^\/+/, "")), { follow: true });
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG")) return false;
    throw error;
  }
}

/** Each in its turn, as soon as those before it are printed; the first that fails ends it. */
function printDigests(paths: readonly string[]): number {
  if (paths.length === 0) throw new UsageError("missing", "No files specified");
  let printed = 0;
  let isWriting = false;
  try {
    measureFiles(paths, (digests) => {
      isWriting = true;
      writeOut(digests.map((digest) => `${digest}\n`).join(""));
      isWriting = false;
      printed += digests.length;
    });
    return 0;
  } catch (error) {
    if (isWriting) throw error;
    writeErr(`composefs-info: Failed to measure "${paths[printed]}": ${describeError(error)}\n`);
    return 1;
  }
}
