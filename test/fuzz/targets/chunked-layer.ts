// Fuzz target: what a zstd:chunked layer says about itself. The first byte picks the document: table of contents,
// tar-split data, or annotations. Files that are accepted lie apart, in order and before the table; tar-split
// data gives the same entries however it is cut.

import type { Descriptor } from "../../../shared/format/oci/manifest.ts";
import { type TarSplitEntry, TarSplitReader } from "../../../shared/format/tar-split/reader.ts";
import { readChunkedPositions } from "../../../shared/format/zstd-chunked/positions.ts";
import { parseChunkedToc } from "../../../shared/format/zstd-chunked/toc.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const DATA_END = 1000;
const LAYER_BYTES = 2000;
const PREFIX = "io.github.containers.zstd-chunked.";
const digest = `sha256:${"a".repeat(64)}`;
const file = { type: "reg", name: "usr/a", size: 5, digest, offset: 3, endOffset: 20 };

const toc = {
  version: 1,
  entries: [
    { type: "dir", name: "usr/", mode: 493 },
    file,
    { type: "chunk", name: "usr/a", offset: 9, chunkSize: 2, chunkOffset: 3, chunkDigest: digest },
    { ...file, name: "usr/b", offset: 20, endOffset: DATA_END },
  ],
  tarSplitDigest: digest,
};
const tarSplit = [
  { type: 2, payload: "dXNyLwA=", position: 0 },
  { type: 1, name: "usr/a", size: 5, payload: "AAAAAAAAAAA=", position: 1 },
  { type: 1, name_raw: "Yf9i", payload: null, position: 2 },
];
const annotations = [digest, "1000:100:300:1", "1108:50:900"];

export const target: FuzzTarget = {
  focus: /^shared\/format\/(tar-split|zstd-chunked)\//,
  maxBytes: 4096,
  words: [
    ...'{|}|[|]|:|,|\n|null|0|-1|1e999|9007199254740993|"size":|"offset":|"endOffset":'.split("|"),
    ...'"position":|"payload":"|"name_raw":"|"type":1|"type":2|"type":"reg"|==|\xff'.split("|"),
  ],
  *seeds() {
    yield Buffer.from(`t${JSON.stringify(toc)}`);
    yield Buffer.from(`s${tarSplit.map((line) => `${JSON.stringify(line)}\n`).join("")}`);
    yield Buffer.from(`a${annotations.join("\n")}`);
  },
  check(input) {
    const document = input.subarray(1);
    switch (String.fromCharCode(input[0] ?? 0)) {
      case "t":
        checkToc(document);
        return true;
      case "s":
        checkTarSplit(document);
        return true;
      case "a":
        return checkAnnotations(Buffer.from(document).toString("latin1"));
      default:
        return false;
    }
  },
};

function checkToc(document: Uint8Array): void {
  let end = 0;
  for (const each of parseChunkedToc(document, DATA_END, "table").files) {
    const isApart = each.startByte >= end && each.endByte > each.startByte;
    if (!isApart || each.endByte > DATA_END) throw new PropertyError("Files are not apart");
    if (!(each.sizeBytes > 0) || !Number.isSafeInteger(each.sizeBytes)) {
      throw new PropertyError(`A file of ${each.sizeBytes} bytes`);
    }
    if (!/^sha256:[0-9a-f]{64}$/.test(each.digest)) throw new PropertyError("A bad digest");
    end = each.endByte;
  }
}

function checkTarSplit(document: Uint8Array): void {
  const whole = attempt(() => readTarSplit(document, document.length + 1));
  const cut = attempt(() => readTarSplit(document, 7));
  if ("error" in whole && "error" in cut) {
    checkEqual(cut.error.message, whole.error.message, "Error of a document in pieces");
    throw whole.error;
  }
  checkEqual(print(cut), print(whole), "A document in pieces");
}

function readTarSplit(document: Uint8Array, pieceBytes: number): TarSplitEntry[] {
  const reader = new TarSplitReader();
  const entries: TarSplitEntry[] = [];
  for (let at = 0; at < document.length; at += pieceBytes) {
    entries.push(...reader.read(document.subarray(at, at + pieceBytes)));
  }
  return [...entries, ...reader.finish()];
}

function print(result: { readonly value: TarSplitEntry[] } | { readonly error: Error }): string {
  if ("error" in result) return result.error.message;
  return result.value
    .map((entry) =>
      entry.kind === "segment"
        ? Buffer.from(entry.bytes).toString("hex")
        : `${JSON.stringify(entry.name)} ${entry.sizeBytes}`,
    )
    .join("\n");
}

/** Lines: checksum, position of the table, position of the tar-split data. */
function checkAnnotations(text: string): boolean {
  const [checksum = "", tocPosition = "", tarSplitPosition = ""] = text.split("\n");
  const layer: Descriptor = {
    mediaType: "application/vnd.oci.image.layer.v1.tar+zstd",
    digest,
    size: LAYER_BYTES,
    annotations: {
      [`${PREFIX}manifest-checksum`]: checksum,
      [`${PREFIX}manifest-position`]: tocPosition,
      [`${PREFIX}tarsplit-position`]: tarSplitPosition,
    },
  };
  const positions = readChunkedPositions(layer);
  if (positions === null) throw new PropertyError("Annotations were passed over");
  for (const { startByte, endByte } of [positions.toc, positions.tarSplit]) {
    if (!(startByte >= 0 && startByte < endByte && endByte <= LAYER_BYTES)) {
      throw new PropertyError(`A section at ${startByte} to ${endByte}`);
    }
  }
  return true;
}
