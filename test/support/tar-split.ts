// Takes a tar apart as Go's tar-split does: a second implementation, for tests.

import { TarReader } from "../../shared/format/tar/reader.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";

/** A part of a tar: literal bytes, or the content of a file (nothing for what has none). */
export type TarPart =
  | { readonly kind: "literal"; readonly bytes: Buffer }
  | { readonly kind: "file"; readonly path: string; readonly content: Buffer };

/** The parts in order. */
export function takeApart(tar: Buffer): TarPart[] {
  const parts: TarPart[] = [];
  let literal: Buffer[] = [];
  let content: Buffer[] = [];
  let path = "";
  const flush = () => {
    if (literal.length > 0) parts.push({ kind: "literal", bytes: Buffer.concat(literal) });
    literal = [];
  };
  const addFile = () => {
    flush();
    parts.push({ kind: "file", path, content: Buffer.concat(content) });
    content = [];
  };
  const reader = new TarReader({
    raw: (bytes) => void literal.push(Buffer.from(bytes)),
    entry: (entry) => {
      path = entry.path;
      if (entry.sizeBytes === 0) addFile();
    },
    content: (bytes) => void content.push(Buffer.from(bytes)),
    contentEnd: addFile,
  });
  reader.write(tar);
  reader.finish();
  flush();
  return parts;
}

/** JSON lines. Each segment holds at most `segmentBytes`: readers do not care. */
export function writeTarSplit(
  parts: readonly TarPart[],
  segmentBytes = Number.POSITIVE_INFINITY,
): Buffer {
  const lines: object[] = [];
  for (const part of parts) {
    if (part.kind === "file") {
      lines.push({ type: 1, ...nameFields(part.path), ...sizeFields(part.content.length) });
      continue;
    }
    for (let at = 0; at < part.bytes.length; at += segmentBytes) {
      lines.push({
        type: 2,
        payload: part.bytes.subarray(at, at + segmentBytes).toString("base64"),
      });
    }
  }
  const texts = lines.map((line, position) => `${JSON.stringify({ ...line, position })}\n`);
  return Buffer.from(texts.join(""));
}

function nameFields(path: string): object {
  const text = fromByteString(path);
  return Buffer.from(text).toString("latin1") === path
    ? { name: text }
    : { name_raw: Buffer.from(path, "latin1").toString("base64") };
}

/** The checksum is not looked at. */
function sizeFields(size: number): object {
  return size === 0 ? { payload: null } : { size, payload: "AAAAAAAAAAA=" };
}
