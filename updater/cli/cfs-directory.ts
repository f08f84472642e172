// `cfs` verbs that read a root directory as composefs-rs does: hard links are kept, the attributes of the
// root are those of /usr, and of xattrs only file capabilities stay (transform.ts).

import { Command } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import { byteStringToBytes, type DirectoryNode } from "../../shared/format/tree/node.ts";
import { computeVerityDigest, type VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import { publishImage } from "../../shared/store/images.ts";
import { hasObject } from "../../shared/store/object-inspection.ts";
import { ensureObjectFromFile } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { openBelow, readRootfsTree, walkFiles } from "../container/rootfs-tree.ts";
import { referToImage } from "./cfs-image.ts";
import {
  type CfsOptions,
  chosenAlgorithm,
  chosenVersion,
  type OptionsOf,
  openChosenRepository,
} from "./cfs-repository.ts";
import { writeOut } from "./standard-stream.ts";
import type { Terminal } from "./terminal.ts";

const DIRECTORY = "root directory of a system";
const BOOTABLE = "as the image that boots: SELinux labels, empty /boot and /sysroot";
const NO_PROPAGATE = "leave the root and all xattrs as they are in the directory";

interface ReadFlags {
  readonly bootable?: true | undefined;
  /** False with --no-propagate-usr-to-root. */
  readonly propagateUsrToRoot: boolean;
}

export function makeDirectoryCommands(terminal: Terminal, optionsOf: OptionsOf) {
  return [
    makeCreateImageCommand(terminal, optionsOf),
    makeComputeIdCommand(terminal, optionsOf),
    makeComputeKargCommand(terminal, optionsOf),
    makeDumpfileCommand(optionsOf),
  ];
}

function makeCreateImageCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("create-image")
    .description("Store a directory's files and the EROFS image of it")
    .argument("<directory>", DIRECTORY)
    .argument("[name]", "reference to make")
    .option("--bootable", BOOTABLE)
    .option("--no-propagate-usr-to-root", NO_PROPAGATE)
    .action((directory, name, flags) => {
      using repo = openChosenRepository(optionsOf());
      const root = readDirectory(directory, repo.algorithm, flags);
      storeContents(repo, directory, root);
      const format = { version: repo.erofsVersion, dialect: "rust" } as const;
      const digest = publishImage(repo, writeErofs(root, format, repo.algorithm));
      referToImage(repo, name, digest);
      terminal.line(`${repo.algorithm}:${digest}`);
    });
}

function makeComputeIdCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("compute-id")
    .description("Compute the id of the EROFS image of a directory; stores nothing")
    .argument("<directory>", DIRECTORY)
    .option("--bootable", BOOTABLE)
    .option("--no-propagate-usr-to-root", NO_PROPAGATE)
    .action((directory, flags) => terminal.line(computeId(directory, optionsOf(), flags)));
}

/** The other form is that of version 2 (composefs-rs.md 5.1). */
function makeComputeKargCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("compute-karg")
    .description("Compute the kernel argument that boots the EROFS image of a directory")
    .argument("<directory>", DIRECTORY)
    .option("--no-propagate-usr-to-root", NO_PROPAGATE)
    .action((directory, { propagateUsrToRoot }) => {
      const options = optionsOf();
      const id = computeId(directory, options, { propagateUsrToRoot, bootable: true });
      const optional = options.insecure === true ? "?" : "";
      const algorithm = chosenAlgorithm(options);
      const karg =
        chosenVersion(options) === 2
          ? `composefs=${optional}${id}`
          : `composefs.digest=${optional}v1-${algorithm}-12:${id}`;
      terminal.line(karg);
    });
}

function makeDumpfileCommand(optionsOf: OptionsOf) {
  return new Command("create-dumpfile")
    .description("Print a directory's files as a dump; stores nothing")
    .argument("<directory>", DIRECTORY)
    .option("--bootable", BOOTABLE)
    .option("--no-propagate-usr-to-root", NO_PROPAGATE)
    .action((directory, flags) => {
      const root = readDirectory(directory, chosenAlgorithm(optionsOf()), flags);
      for (const line of formatDump(root, { dialect: "rust" })) writeOut(byteStringToBytes(line));
    });
}

function computeId(directory: string, options: CfsOptions, flags: ReadFlags): string {
  const algorithm = chosenAlgorithm(options);
  const root = readDirectory(directory, algorithm, flags);
  const format = { version: chosenVersion(options) ?? 1, dialect: "rust" } as const;
  return computeVerityDigest(writeErofs(root, format, algorithm), algorithm);
}

function readDirectory(path: string, algorithm: VerityAlgorithm, flags: ReadFlags): DirectoryNode {
  return readRootfsTree(path, {
    algorithm,
    keepsRoot: !flags.propagateUsrToRoot,
    bootable: flags.bootable === true,
  });
}

/** Objects for everything the image names; those that are there already are not read again. */
function storeContents(repo: Repository, path: string, root: DirectoryNode): void {
  const stored = new Set<string>();
  for (const [name, { content }] of walkFiles(root, "")) {
    const digest = content.kind === "external" ? content.digest : undefined;
    if (digest === undefined || stored.has(digest) || hasObject(repo, digest)) continue;
    using fd = openBelow(path, name);
    if (ensureObjectFromFile(repo, fd).digest !== digest) {
      throw new StateError("conflict", `"${path}" was changed while it was read; try again`);
    }
    stored.add(digest);
  }
}
