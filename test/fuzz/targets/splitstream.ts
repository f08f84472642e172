// Fuzz target: the splitstream reader. The collector sees every object the stream uses; what was
// played can be written again and then plays the same.

import { encodeContentType } from "../../../shared/format/splitstream/format.ts";
import { readSplitStream, readSplitStreamRefs } from "../../../shared/format/splitstream/reader.ts";
import { SplitStreamWriter } from "../../../shared/format/splitstream/writer.ts";
import { mutateSplitStream, objectSize, putTogether, takeApart } from "../splitstream-parts.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const TYPE = "ocilayer";
/** A frame of a few bytes can stand for gigabytes; a reader streams them, a fuzzer has no time. */
const MAX_PLAYED_BYTES = 1 << 20;

class PlayedEnough extends Error {
  override readonly name = "PlayedEnough";
}

export const target: FuzzTarget = {
  focus: /^shared\/format\/splitstream\/(reader|zstd-frame)\.ts/,
  maxBytes: 4096,
  errors: ["FormatError", "IntegrityError", "PlayedEnough"],
  // Named references may be 4 MiB whatever the file's size; so are the pieces zlib hands out.
  memoryPerByte: 1 << 16,
  mutate: mutateSplitStream,
  *seeds() {
    for (const algorithm of [1, 2] as const) {
      for (const isOld of [false, true]) yield makeSeed(algorithm, isOld);
    }
  },
  async check(input) {
    const refs = attempt(() => readSplitStreamRefs(input));
    const played = await play(input);
    if ("error" in refs)
      throw new PropertyError(`Played without references: ${refs.error.message}`);
    const listed = new Set(refs.value.objectRefs);
    const unlisted = played.find((piece) => piece.startsWith("@") && !listed.has(piece.slice(1)));
    checkEqual(unlisted, undefined, "Object that the collector does not see");
    checkEqual(measure(played), takeApart(input)?.streamSize, "Size of the stream");
    const again = await writeAgain(played, refs.value.namedRefs, refs.value.objectRefs[0]);
    checkEqual((await play(again)).join(" "), played.join(" "), "Stream written again");
    const named = readSplitStreamRefs(again).namedRefs;
    checkEqual(listNames(named), listNames(refs.value.namedRefs), "Named references written again");
    return true;
  },
};

function makeSeed(algorithm: 1 | 2, isOld: boolean): Uint8Array {
  const digest = (byte: number) => new Uint8Array(32 * algorithm).fill(byte);
  const chunk = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    return bytes;
  };
  const literal = Buffer.from("header");
  const pieces = [chunk(-literal.length), literal, chunk(0), chunk(1), chunk(0)];
  return putTogether({
    algorithm,
    isOld,
    contentType: encodeContentType(TYPE),
    streamRefs: Buffer.concat([digest(7), digest(8)]),
    objectRefs: Buffer.concat([digest(1), digest(2)]),
    namedRefs: Buffer.from("0:config:sha256:x\x001:layer\0", "latin1"),
    stream: Buffer.concat(pieces),
    streamSize: literal.length + 2 * objectSize(1) + objectSize(2),
  });
}

/** Literals, joined, in hex; digests after "@". */
async function play(file: Uint8Array): Promise<readonly string[]> {
  const pieces: string[] = [];
  const literals: Buffer[] = [];
  let done = 0;
  const closeLiteral = () => {
    if (literals.length > 0) pieces.push(Buffer.concat(literals.splice(0)).toString("hex"));
  };
  await readSplitStream(file, TYPE, {
    inline(bytes) {
      done += bytes.length;
      if (done > MAX_PLAYED_BYTES) throw new PlayedEnough();
      literals.push(Buffer.from(bytes));
    },
    external(digest) {
      closeLiteral();
      pieces.push(`@${digest}`);
      return objectSize(Number.parseInt(digest.slice(0, 2), 16));
    },
  });
  closeLiteral();
  return pieces;
}

function measure(pieces: readonly string[]): number {
  return pieces.reduce((sum, piece) => {
    const isObject = piece.startsWith("@");
    return sum + (isObject ? objectSize(Number.parseInt(piece.slice(1, 3), 16)) : piece.length / 2);
  }, 0);
}

async function writeAgain(
  pieces: readonly string[],
  named: ReadonlyMap<string, string>,
  anyDigest: string | undefined,
): Promise<Uint8Array> {
  const digest = anyDigest ?? named.values().next().value ?? "";
  using writer = new SplitStreamWriter(digest.length === 64 ? "sha256" : "sha512", TYPE);
  for (const piece of pieces) {
    if (!piece.startsWith("@")) writer.writeInline(Buffer.from(piece, "hex"));
    else writer.writeExternal(piece.slice(1), objectSize(Number.parseInt(piece.slice(1, 3), 16)));
    await writer.drain();
  }
  for (const [name, target] of named) writer.addNamedRef(name, target);
  return Buffer.concat(await writer.finish());
}

function listNames(named: ReadonlyMap<string, string>): string {
  return JSON.stringify([...named].sort());
}
