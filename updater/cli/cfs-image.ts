// `cfs` verbs for the EROFS images of a repository: listing, looking into, importing and mounting them.
//
// A name is an image's digest, a reference below images/refs, or that with "refs/" before it. Unlike
// cfsctl a reference is followed to the digest, which is then checked like any other.

import { Command } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import { collectObjects, readErofs } from "../../shared/format/erofs/reader.ts";
import { formatDumpOf } from "../../shared/format/tree/dump-format.ts";
import {
  type ByteString,
  byteStringToBytes,
  type DirectoryNode,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { openImage, publishImage } from "../../shared/store/images.ts";
import { listRefs, setRef } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { readAll } from "../../shared/sys/file.ts";
import { MOUNT_HELP, mountStoredImage } from "./cfs-mount.ts";
import { type OptionsOf, openChosenRepository } from "./cfs-repository.ts";
import { writeOut } from "./standard-stream.ts";
import type { Terminal } from "./terminal.ts";
import { formatTable } from "./text-table.ts";

const MAX_IMAGE_BYTES = 2 ** 32;
const SHOWN_DIGITS = 12;
const STDIN = 0;
const IMAGE = "digest of an image, or its reference";

export function makeImageCommands(terminal: Terminal, optionsOf: OptionsOf) {
  return [
    makeImagesCommand(terminal, optionsOf),
    makeImageObjectsCommand(terminal, optionsOf),
    makeDumpFilesCommand(terminal, optionsOf),
    makeImportCommand(terminal, optionsOf),
    makeMountCommand(optionsOf),
  ];
}

/** The digest that `name` stands for; StateError when there is no such image. */
function findImage(repo: Repository, name: string): string {
  const refName = name.startsWith("refs/") ? name.slice("refs/".length) : name;
  const ref = listRefs(repo, "images").find((each) => each.name === refName);
  if (ref !== undefined) return ref.target;
  const digest = name.startsWith(`${repo.algorithm}:`) ? name.slice(7) : name;
  if (/^[0-9a-f]{64,128}$/.test(digest)) return digest;
  throw new StateError("missing", `"${repo.path}" has no image "${name}"; see "cfs images"`);
}

function readImage(repo: Repository, name: string): Uint8Array {
  using fd = openImage(repo, findImage(repo, name)).fd;
  return readAll(fd, MAX_IMAGE_BYTES);
}

/** Names the image `digest`, where a name was given. */
export function referToImage(repo: Repository, name: string | undefined, digest: string): void {
  if (name !== undefined) setRef(repo, "images", name, digest);
}

function makeImagesCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("images")
    .description("List the references to EROFS images")
    .option("--json", "as JSON")
    .option("--no-trunc", "show whole digests")
    .action(({ json, trunc }) => {
      using repo = openChosenRepository(optionsOf());
      const images = listRefs(repo, "images").map(({ name, target }) => ({ name, digest: target }));
      if (json === true) terminal.line(JSON.stringify({ images }, null, 2));
      else if (images.length === 0) terminal.line("No images found");
      else {
        const shown = (digest: string) => (trunc ? digest.slice(0, SHOWN_DIGITS) : digest);
        const rows = images.map(({ name, digest }) => [name, shown(digest)]);
        for (const line of formatTable(["NAME", "DIGEST"], rows)) terminal.line(line);
      }
    });
}

function makeImageObjectsCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("image-objects")
    .description("List the objects that an image needs")
    .argument("<image>", IMAGE)
    .action((name) => {
      using repo = openChosenRepository(optionsOf());
      const objects = [...collectObjects(readImage(repo, name))].sort();
      for (const digest of objects) terminal.line(`${repo.algorithm}:${digest}`);
    });
}

function makeDumpFilesCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("dump-files")
    .description("Show files of an image as lines of a dump")
    .argument("<image>", IMAGE)
    .argument("[files...]", "paths in the image; a directory also shows what is in it")
    .option("--backing-path-only", "only where the content is: inline, or below objects/")
    .action((name, files, { backingPathOnly }) => {
      using repo = openChosenRepository(optionsOf());
      const { root } = readErofs(readImage(repo, name));
      for (const path of files) {
        const node = lookUp(root, path);
        if (backingPathOnly === true) terminal.line(`${path} ${backingPath(path, node)}`);
        else {
          const lines = formatDumpOf(node, partName(path), root, { dialect: "rust" });
          for (const line of lines) writeOut(byteStringToBytes(line));
        }
      }
    });
}

function lookUp(root: DirectoryNode, path: string): TreeNode {
  let node: TreeNode = root;
  for (const name of path.split("/").filter((each) => each !== "")) {
    const child: TreeNode | undefined =
      node.kind === "directory" ? node.entries.get(toByteString(name)) : undefined;
    if (child === undefined) throw new StateError("missing", `"${path}" is not in the image`);
    node = child;
  }
  return node;
}

/** As it was given, but for slashes at the end; "" is the root. */
function partName(path: string): ByteString {
  return toByteString(path.replace(/\/+$/, ""));
}

function backingPath(path: string, node: TreeNode): string {
  if (node.kind === "directory") throw new UsageError("bad-value", `"${path}" is a directory`);
  const content = node.kind === "file" ? node.content : null;
  return content?.kind === "external" && content.digest !== undefined
    ? objectPath(content.digest)
    : "inline";
}

function makeImportCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("import-image")
    .description("Store the EROFS image from standard input; nothing says that it is a good one")
    .argument("<name>", "reference to make")
    .action((name) => {
      using repo = openChosenRepository(optionsOf());
      const stdin = new Fd(STDIN);
      let image: Uint8Array;
      try {
        image = readAll(stdin, MAX_IMAGE_BYTES);
      } finally {
        stdin.release();
      }
      // Malformed ones would stop every later garbage collection.
      collectObjects(image);
      const digest = publishImage(repo, image);
      referToImage(repo, name, digest);
      terminal.line(`${repo.algorithm}:${digest}`);
    });
}

function makeMountCommand(optionsOf: OptionsOf) {
  return new Command("mount")
    .description("Mount an image; a secure repository's has its files checked")
    .argument("<image>", IMAGE)
    .argument("<directory>", "where")
    .option("--upperdir <directory>", MOUNT_HELP.upperdir)
    .option("--workdir <directory>", MOUNT_HELP.workdir)
    .option("--read-write", MOUNT_HELP.readWrite)
    .action((name, directory, flags) => {
      using repo = openChosenRepository(optionsOf());
      mountStoredImage(repo, { digest: findImage(repo, name), name, directory, flags });
    });
}
