// `bootc container compute-composefs-digest` and `…-from-storage` (bootc.md 10.5): the id that the deployment of
// an image will have, while the image is built.

import { resolve } from "node:path";
import { Command } from "@commander-js/extra-typings";
import { isErrno, StateError, UsageError } from "../../shared/error.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { byteStringToBytes, type DirectoryNode } from "../../shared/format/tree/node.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { requireRootfs } from "../container/rootfs-kernel.ts";
import { computeBootId, readRootfsTree } from "../container/rootfs-tree.ts";
import { computeStoredTree } from "../container/stored-digest.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

const DUMP_OPTION = "--write-dumpfile-to <file>";
const DUMP_HELP = "also write what the image has in it, as a dump";

export function makeDigestCommand(terminal: Terminal) {
  return new Command("compute-composefs-digest")
    .description("Print the composefs digest of an unpacked image, as machines compute it")
    .argument("[path]", "the image's root directory", "/target")
    .option(DUMP_OPTION, DUMP_HELP)
    .action((path, { writeDumpfileTo }) => {
      const directory = requireRootfs(path);
      if (directory === "/") {
        throw new UsageError(
          "bad-value",
          'The running root cannot be measured, it changes meanwhile; mount the image, e.g. on "/target"',
        );
      }
      const tree = readRootfsTree(directory, { algorithm: "sha512", bootable: true });
      if (writeDumpfileTo !== undefined) writeDumpFile(writeDumpfileTo, tree);
      terminal.line(computeBootId(tree));
    });
}

export function makeStorageDigestCommand(terminal: Terminal) {
  return new Command("compute-composefs-digest-from-storage")
    .description("Print the composefs digest of an image in this machine's container storage")
    .argument("[image]", "the default is the image of the container this runs in")
    .option(DUMP_OPTION, DUMP_HELP)
    .action(async (image, { writeDumpfileTo }) => {
      using interruption = watchInterruption();
      const tree = await computeStoredTree(image ?? null, interruption.signal);
      if (writeDumpfileTo !== undefined) writeDumpFile(writeDumpfileTo, tree);
      terminal.line(computeBootId(tree));
    });
}

export function writeDumpFile(path: string, tree: DirectoryNode): void {
  try {
    writeChunksAtomic(null, resolve(path), dumpChunks(tree), { mode: 0o644 });
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR", "EISDIR", "EROFS", "EACCES")) throw cause;
    throw new StateError("missing", `Cannot write the dump "${path}"`, { path }, { cause });
  }
}

function* dumpChunks(tree: DirectoryNode): Generator<Uint8Array> {
  for (const line of formatDump(tree, { dialect: "rust" })) yield byteStringToBytes(line);
}
