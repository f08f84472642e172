// The table of contents of a zstd:chunked layer (JSON): for every file of the tar its digest and which bytes
// of the layer, decompressed alone, are its content.
//
// Entries are in the order of the tar. Only regular files with content matter here: all else comes from the
// tar-split data. "chunk" entries split a file further and are not needed: a file is fetched whole. What is
// accepted has its ranges in order, apart from each other and before the table.
// Source: containers/storage `pkg/chunked/internal/minimal`; CRFS and estargz have the same fields.

import * as z from "zod";
import { FormatError } from "../../error.ts";
import { parseJson } from "../oci/json.ts";

/** One regular file that is not empty. */
export interface ChunkedFile {
  /** As in the tar, as far as it is UTF-8; only a hint where such a file may lie already. */
  readonly name: string;
  readonly sizeBytes: number;
  /** sha256:… of the content. */
  readonly digest: string;
  /** Bytes [startByte, endByte) of the layer: whole zstd frames. */
  readonly startByte: number;
  readonly endByte: number;
}

export interface ChunkedToc {
  /** In the order of the tar. */
  readonly files: readonly ChunkedFile[];
  /** Of the compressed tar-split data; null in tables of older tools. */
  readonly tarSplitDigest: string | null;
}

const MAX_ENTRIES = 2_000_000;
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "is not a sha256 digest");

const tocSchema = z.object({
  version: z.literal(1),
  entries: z
    .array(
      z.object({
        type: z.string(),
        name: z.string(),
        size: z.int().nonnegative().optional(),
        digest: z.string().optional(),
        offset: z.int().nonnegative().optional(),
        endOffset: z.int().nonnegative().optional(),
      }),
    )
    .max(MAX_ENTRIES),
  tarSplitDigest: digest.optional(),
});
type RawEntry = z.infer<typeof tocSchema>["entries"][number];

/** `dataEndByte`: where files must end, the start of the table. FormatError names the entry. */
export function parseChunkedToc(bytes: Uint8Array, dataEndByte: number, what: string): ChunkedToc {
  const { entries, tarSplitDigest } = parseJson(tocSchema, bytes, what);
  const files: ChunkedFile[] = [];
  let lastEndByte = 0;
  for (const entry of entries) {
    if (entry.type !== "reg" || (entry.size ?? 0) === 0) continue;
    const file = checkFile(entry, what);
    if (file.startByte < lastEndByte || file.endByte > dataEndByte) {
      throw problem(entry, "lies where it cannot", what);
    }
    lastEndByte = file.endByte;
    files.push(file);
  }
  return { files, tarSplitDigest: tarSplitDigest ?? null };
}

function checkFile(entry: RawEntry, what: string): ChunkedFile {
  const { name, size = 0, offset, endOffset } = entry;
  if (!digest.safeParse(entry.digest).success) throw problem(entry, "has no sha256 digest", what);
  if (offset === undefined || endOffset === undefined || endOffset <= offset) {
    throw problem(entry, "has no bytes in the layer", what);
  }
  return {
    name,
    sizeBytes: size,
    digest: entry.digest as string,
    startByte: offset,
    endByte: endOffset,
  };
}

function problem({ name }: RawEntry, text: string, what: string): FormatError {
  return new FormatError("bad-value", `${what}: file "${name}" ${text}`, {
    format: "zstd-chunked",
    entry: name,
  });
}
