// Layers in zstd:chunked of our own making, also those that lie: their manifest vouches for the table of contents
// that is in them, whatever it says. The honest ones are like those of skopeo and podman (chunked.test.ts
// has theirs, too).

import { zstdCompressSync } from "node:zlib";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import type { TestLayer } from "./oci-builder.ts";
import { type TarPart, takeApart, writeTarSplit } from "./tar-split.ts";

export interface TocEntry {
  type: string;
  name: string;
  size?: number;
  digest?: string;
  offset?: number;
  endOffset?: number;
}

export interface Toc {
  version: number;
  entries: TocEntry[];
  tarSplitDigest?: string;
}

/** What to do to an honest layer before its digests are made. */
export interface ChunkedLies {
  readonly toc?: (toc: Toc) => void;
  /** The table's JSON. */
  readonly tocText?: (text: string) => string;
  /** Taken apart for the tar-split data instead of the layer's own tar. */
  readonly tarSplitOf?: Buffer;
  readonly tarSplit?: (text: string) => string;
  readonly annotations?: (annotations: Record<string, string>) => void;
}

const PREFIX = "io.github.containers.zstd-chunked.";

export function makeChunkedLayer(tar: Buffer, lies: ChunkedLies = {}): TestLayer {
  const parts = takeApart(tar);
  const { frames, entries } = writeFrames(parts);
  const other = lies.tarSplitOf === undefined ? parts : takeApart(lies.tarSplitOf);
  const tarSplitText = writeTarSplit(other).toString();
  const tarSplit = Buffer.from(lies.tarSplit?.(tarSplitText) ?? tarSplitText);
  const tarSplitFrame = zstdCompressSync(tarSplit);
  const toc: Toc = { version: 1, entries, tarSplitDigest: computeDigest(tarSplitFrame) };
  lies.toc?.(toc);
  const tocText = JSON.stringify(toc);
  const tocBytes = Buffer.from(lies.tocText?.(tocText) ?? tocText);
  const tocFrame = zstdCompressSync(tocBytes);
  const tocAt = frames.length + 8;
  const tarSplitAt = tocAt + tocFrame.length + 8;
  const annotations = {
    [`${PREFIX}manifest-checksum`]: computeDigest(tocFrame),
    [`${PREFIX}manifest-position`]: `${tocAt}:${tocFrame.length}:${tocBytes.length}:1`,
    [`${PREFIX}tarsplit-position`]: `${tarSplitAt}:${tarSplitFrame.length}:${tarSplit.length}`,
  };
  lies.annotations?.(annotations);
  const footer = Buffer.alloc(64);
  const blob = Buffer.concat([
    frames,
    ...[tocFrame, tarSplitFrame, footer].flatMap((bytes) => [skippableHeader(bytes), bytes]),
  ]);
  return { tar, blob, compression: "zstd", annotations };
}

function writeFrames(parts: readonly TarPart[]): { frames: Buffer; entries: TocEntry[] } {
  const frames: Buffer[] = [];
  const entries: TocEntry[] = [];
  let offset = 0;
  const add = (bytes: Buffer) => {
    const frame = zstdCompressSync(bytes);
    frames.push(frame);
    offset += frame.length;
  };
  for (const part of parts) {
    if (part.kind === "literal") {
      add(part.bytes);
      continue;
    }
    const { path, content } = part;
    if (content.length === 0) {
      entries.push({ type: path.endsWith("/") ? "dir" : "reg", name: path });
      continue;
    }
    const start = offset;
    // A large file in several frames, as rolling checksums cut it.
    for (let at = 0; at < content.length; at += 100_000) add(content.subarray(at, at + 100_000));
    const digest = computeDigest(content);
    entries.push({
      ...{ type: "reg", name: path, size: content.length, digest },
      ...{ offset: start, endOffset: offset },
    });
  }
  return { frames: Buffer.concat(frames), entries };
}

function skippableHeader(bytes: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184d2a50, 0);
  header.writeUInt32LE(bytes.length, 4);
  return header;
}
