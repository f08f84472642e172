// `cfs oci layer`, `cfs oci import-layer` and `cfs cat`: streams of the repository, made again from their
// parts, and tars on their way in.

import { isatty } from "node:tty";
import { Command } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import { readSplitStream } from "../../shared/format/splitstream/reader.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { escapeField, formatDumpOf } from "../../shared/format/tree/dump-format.ts";
import {
  byteStringToBytes,
  type FileContent,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import { openObject } from "../../shared/store/objects.ts";
import { listRefs, setRef } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { publishStream, streamObject } from "../../shared/store/streams.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { read } from "../../shared/sys/file.ts";
import { layerStreamName, readStream } from "../image/image-streams.ts";
import { copyMetadata, createRoot, makeLeaf, splitPath } from "../image/layer-tree.ts";
import { importLayer } from "../image/layers.ts";
import { checkDigest } from "../image/named-image.ts";
import { readLayerEntries } from "../image/tree.ts";
import { type OptionsOf, openChosenRepository } from "./cfs-repository.ts";
import { STDOUT, writeOut, writeWholeOut } from "./standard-stream.ts";
import type { Terminal } from "./terminal.ts";

const PIECE_BYTES = 1 << 20;
const STDIN = 0;
/** Whoever gives the digest of a tar vouches for its size. */
const MAX_TAR_BYTES = 2 ** 40;
const DIFF_ID = "digest of the layer's tar";
/** Beginnings of stream names, and what such streams hold. */
const CONTENT_TYPES = {
  "oci-layer-": "ocilayer",
  "oci-config-": "ociconfg",
  "oci-manifest-": "ocimanif",
  "oci-blob-": "oci_blob",
} as const;

export function makeCatCommand(optionsOf: OptionsOf) {
  return new Command("cat")
    .description("Print what a stream holds")
    .argument("<stream>", "its name, or refs/ and the name of a reference")
    .action(async (name) => {
      using repo = openChosenRepository(optionsOf());
      const refName = name.startsWith("refs/") ? name.slice("refs/".length) : null;
      const ref = listRefs(repo, "streams").find((each) => each.name === refName);
      await playStream(repo, refName === null ? name : (ref?.target ?? name), writeWholeOut);
    });
}

export function makeLayerCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("layer")
    .description("Print a stored layer as the tar it was made from")
    .argument("<diff-id>", DIFF_ID)
    .option("--dumpfile", "print its entries as lines of a dump")
    .option("--json", "print how it is stored")
    .action(async (diffId, { dumpfile, json }) => {
      if (dumpfile === true && json === true) {
        throw new UsageError("conflict", "Options --dumpfile and --json exclude each other");
      }
      checkDigest(diffId);
      using repo = openChosenRepository(optionsOf());
      if (dumpfile === true) await printEntries(repo, diffId);
      else if (json === true) {
        terminal.line(JSON.stringify(await describeLayer(repo, diffId), null, 2));
      } else {
        if (isatty(STDOUT)) {
          const message = "A tar is not for a terminal; send it to a file or a pipe, or use --json";
          throw new StateError("conflict", message);
        }
        await playStream(repo, layerStreamName(diffId), writeWholeOut);
      }
    });
}

/** Writes the whole stream; returns where its bytes came from. */
async function playStream(
  repo: Repository,
  name: string,
  write: (bytes: Uint8Array) => void,
): Promise<{ inlineBytes: number; externalBytes: number; objects: Set<string> }> {
  const prefix = (Object.keys(CONTENT_TYPES) as (keyof typeof CONTENT_TYPES)[]).find((each) =>
    name.startsWith(each),
  );
  const stream = prefix === undefined ? null : readStream(repo, name);
  if (prefix === undefined || stream === null) {
    throw new StateError("missing", `"${repo.path}" has no stream "${name}"`);
  }
  const sum = { inlineBytes: 0, externalBytes: 0, objects: new Set<string>() };
  await readSplitStream(stream, CONTENT_TYPES[prefix], {
    inline: (bytes) => {
      sum.inlineBytes += bytes.length;
      write(bytes);
    },
    external: (digest) => {
      const sizeBytes = playObject(repo, digest, write);
      sum.externalBytes += sizeBytes;
      sum.objects.add(digest);
      return sizeBytes;
    },
  });
  return sum;
}

function playObject(repo: Repository, digest: string, write: (bytes: Uint8Array) => void): number {
  using fd = openObject(repo, digest);
  const buffer = new Uint8Array(PIECE_BYTES);
  let sizeBytes = 0;
  for (let count = read(fd, buffer); count > 0; count = read(fd, buffer)) {
    write(buffer.subarray(0, count));
    sizeBytes += count;
  }
  return sizeBytes;
}

async function describeLayer(repo: Repository, diffId: string) {
  const name = layerStreamName(diffId);
  const { inlineBytes, externalBytes, objects } = await playStream(repo, name, () => {});
  let entryCount = 0;
  await readLayerEntries(repo, diffId, () => {
    entryCount += 1;
  });
  return {
    diffId,
    verity: streamObject(repo, name),
    size: inlineBytes + externalBytes,
    entryCount,
    splitstream: {
      externalObjects: objects.size,
      externalSize: externalBytes,
      inlineSize: inlineBytes,
    },
  };
}

/** In the tar's order, each entry as if it were alone: whiteouts are files, directories have no entries. */
async function printEntries(repo: Repository, diffId: string): Promise<void> {
  await readLayerEntries(repo, diffId, (entry, content) => {
    const path = `/${splitPath(entry.path).join("/")}`;
    if (entry.type === "hardlink") {
      const target = `/${splitPath(entry.linkTarget).join("/")}`;
      writeOut(`${escapeField(path)} 0 @120000 - - - - 0.0 ${escapeField(target)} - -\n`);
    } else printNode(path, makeNode(entry, content));
  });
}

function makeNode(entry: TarEntry, content: FileContent): TreeNode {
  if (entry.type !== "directory") return makeLeaf(entry, content);
  const directory = createRoot();
  copyMetadata(directory, entry);
  return directory;
}

function printNode(path: string, node: TreeNode): void {
  const root = createRoot();
  root.entries.set("x", node);
  for (const line of formatDumpOf(node, path, root, { dialect: "rust" })) {
    // Of a directory's link number a tar knows nothing; cfsctl says 1.
    const shown = node.kind === "directory" ? line.replace(/^(\S+ \S+ \S+) 2 /, "$1 1 ") : line;
    writeOut(byteStringToBytes(shown));
  }
}

export function makeImportLayerCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("import-layer")
    .description("Store the tar from standard input as a layer")
    .argument("<diff-id>", DIFF_ID)
    .argument("[name]", "reference to make")
    .action(async (diffId, name) => {
      checkDigest(diffId);
      using repo = openChosenRepository(optionsOf());
      const what = `Layer ${diffId}`;
      const digest = await importLayer(repo, {
        chunks: readStdin(),
        compressedBytes: MAX_TAR_BYTES,
        blobDigest: "",
        diffId,
        what,
      });
      publishStream(repo, layerStreamName(diffId), digest);
      if (name !== undefined) setRef(repo, "streams", name, layerStreamName(diffId));
      terminal.line(`${repo.algorithm}:${digest}`);
    });
}

async function* readStdin(): AsyncGenerator<Uint8Array> {
  const stdin = new Fd(STDIN);
  try {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let count = read(stdin, buffer); count > 0; count = read(stdin, buffer)) {
      yield buffer.slice(0, count);
    }
  } finally {
    stdin.release();
  }
}
