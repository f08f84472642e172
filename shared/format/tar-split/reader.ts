// tar-split: a tar taken apart, one JSON object a line. Segments are literal bytes of the archive (headers,
// padding, the end), files stand for contents that are kept elsewhere; in order they are the tar, bit for
// bit. Nothing here is trusted: whoever assembles the tar checks its digest.
//
// Source: github.com/vbatts/tar-split (`tar/storage`), as containers/storage keeps it beside a layer
// (`<id>.tar-split.gz`) and zstd:chunked carries it. Go writes []byte as base64 and omits empty fields.

import * as z from "zod";
import { FormatError } from "../../error.ts";
import { type ByteString, toByteString } from "../tree/node.ts";

export type TarSplitEntry =
  | { readonly kind: "segment"; readonly bytes: Uint8Array }
  | {
      readonly kind: "file";
      /** As the tar has it ("./usr/bin/sh"). */
      readonly name: ByteString;
      /** 0 for what has no content: directories, links, empty files. */
      readonly sizeBytes: number;
    };

const FILE_TYPE = 1;
const SEGMENT_TYPE = 2;
/** A segment holds the headers between two files; base64 makes a third more of it. */
const MAX_LINE_BYTES = 32 << 20;
const NEWLINE = 0x0a;

const lineSchema = z.object({
  type: z.union([z.literal(FILE_TYPE), z.literal(SEGMENT_TYPE)]),
  name: z.string().optional(),
  /** For names that are not UTF-8. */
  name_raw: z.string().nullish(),
  size: z.int().nonnegative().optional(),
  /** Of a file: CRC-64 of its content, which diff_id makes superfluous. */
  payload: z.string().nullish(),
  position: z.int().nonnegative().optional(),
});

/** Takes the document piece by piece; pieces may be cut anywhere. */
export class TarSplitReader {
  #rest: Buffer[] = [];
  #restBytes = 0;
  #position = 0;
  /** Of the line being read, for messages. */
  #offset = 0;

  /** The entries that end in `piece`. FormatError names line and offset. */
  *read(piece: Uint8Array): Generator<TarSplitEntry> {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      const line = this.#completeLine(chunk.subarray(start, end));
      start = end + 1;
      if (line.length > 0) yield this.#parse(line);
      this.#offset += line.length + 1;
    }
    this.#keep(chunk.subarray(start));
  }

  /** After the last piece: the entry of a last line without a newline, if there is one. */
  *finish(): Generator<TarSplitEntry> {
    const line = this.#completeLine(Buffer.alloc(0));
    if (line.length > 0) yield this.#parse(line);
  }

  #completeLine(end: Buffer): Buffer {
    if (this.#restBytes === 0) return end;
    this.#keep(end);
    const line = Buffer.concat(this.#rest);
    this.#rest = [];
    this.#restBytes = 0;
    return line;
  }

  /** Copies: the piece may be reused by its owner. */
  #keep(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#restBytes += bytes.length;
    if (this.#restBytes > MAX_LINE_BYTES) {
      throw this.#error("limit", `a line is longer than ${MAX_LINE_BYTES} bytes`);
    }
    this.#rest.push(Buffer.from(bytes));
  }

  #parse(line: Buffer): TarSplitEntry {
    const { type, name, name_raw, size = 0, payload, position } = this.#parseLine(line);
    const index = this.#position++;
    if (position !== undefined && position !== index) {
      throw this.#error("bad-value", `position ${position} where ${index} is expected`);
    }
    if (type === SEGMENT_TYPE) return { kind: "segment", bytes: this.#decode(payload ?? "") };
    const raw = name_raw ?? "";
    const bytes = raw === "" ? toByteString(name ?? "") : this.#decode(raw).toString("latin1");
    return { kind: "file", name: bytes, sizeBytes: size };
  }

  #parseLine(line: Buffer): z.infer<typeof lineSchema> {
    let value: unknown;
    try {
      value = JSON.parse(line.toString("utf8"));
    } catch (cause) {
      throw this.#error("bad-value", "a line is not JSON", cause);
    }
    const result = lineSchema.safeParse(value);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    throw this.#error("bad-value", `"${issue?.path.join(".")}": ${issue?.message}`);
  }

  /** Buffer skips what is not base64; then bytes are missing. */
  #decode(text: string): Buffer {
    const bytes = Buffer.from(text, "base64");
    const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
    if (text.length % 4 !== 0 || bytes.length !== (text.length / 4) * 3 - padding) {
      throw this.#error("bad-value", "a payload is not base64");
    }
    return bytes;
  }

  #error(code: FormatError["code"], problem: string, cause?: unknown): FormatError {
    const offset = this.#offset;
    return new FormatError(
      code,
      `Bad tar-split data at byte ${offset}: ${problem}`,
      { format: "tar-split", offset },
      { cause },
    );
  }
}
