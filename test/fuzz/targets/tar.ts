// Fuzz target: the tar reader with its PAX headers. Every byte comes out once and in order, however
// the archive is cut into pieces.

import { TarReader } from "../../../shared/format/tar/reader.ts";
import { paxMember, TAR_END, tarMember } from "../../support/tar-builder.ts";
import { changeTarHeader, fixTarChecksums } from "../tar-blocks.ts";
import { attempt, checkEqual, checkSameBytes, type FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  focus: /^shared\/format\/tar\//,
  maxBytes: 16_384,
  words: [
    ..."ustar\x0000|ustar  \0|30 mtime=-1.5\n|20 path=|12 size=5\n|11 path=a\n|9 uid=1\n".split(
      "|",
    ),
    ..."32 SCHILY.xattr.user.a=b\n|25 GNU.sparse.major=1\n|../|./|\0|\x80|\xff|00000001750".split(
      "|",
    ),
  ],
  mutate: changeTarHeader,
  repair: fixTarChecksums,
  *seeds() {
    yield TAR_END;
    for (const member of SEEDS) yield Buffer.concat([...member, TAR_END]);
    yield Buffer.concat([...SEEDS.flat(), TAR_END]);
  },
  check(input) {
    const whole = attempt(() => play([input], input.length));
    const cut = attempt(() => play(cutUp(input), input.length));
    checkEqual(
      "error" in cut && cut.error.message,
      "error" in whole && whole.error.message,
      "Error",
    );
    if ("error" in whole || "error" in cut) return false;
    checkSameBytes(whole.value.bytes, input, "Bytes of the archive");
    checkSameBytes(cut.value.bytes, input, "Bytes of the archive in pieces");
    checkEqual(cut.value.events.join("\n"), whole.value.events.join("\n"), "Entries");
    checkSkipping(input, whole.value.contents);
    return true;
  },
};

const SEEDS: readonly (readonly Buffer[])[] = [
  [tarMember({ name: "a/b", content: "hello", mtime: 7 })],
  [
    tarMember({ name: "dir/", type: "5", magic: "gnu" }),
    tarMember({ name: "v7", magic: "v7", type: "\0" }),
  ],
  [
    tarMember({ name: "l", type: "2", linkName: "target" }),
    tarMember({ name: "h", type: "1", linkName: "a" }),
  ],
  [tarMember({ name: "null", type: "3", device: [1, 3] }), tarMember({ name: "fifo", type: "6" })],
  [
    paxMember([
      ["path", "long/".repeat(30)],
      ["size", "3"],
      ["mtime", "1700000000.123456789"],
      ["uid", "100000"],
      ["gid", "5"],
      ["SCHILY.xattr.security.capability", Buffer.from("\x01\0\0\x02=\n", "latin1")],
      ["linkpath", ""],
    ]),
    tarMember({ name: "short", content: "abc" }),
  ],
  [
    tarMember({ name: "././@LongLink", type: "L", magic: "gnu", content: `${"n".repeat(150)}\0` }),
    tarMember({ name: "././@LongLink", type: "K", magic: "gnu", content: `${"t".repeat(150)}\0` }),
    tarMember({ name: "n", type: "2", magic: "gnu", linkName: "t" }),
  ],
  [
    paxMember([["comment", "x"]], "g"),
    tarMember({ name: "x", prefix: "prefix", content: "y".repeat(600) }),
  ],
];

function play(pieces: Iterable<Uint8Array>, sizeBytes: number) {
  const bytes = new Uint8Array(sizeBytes);
  let at = 0;
  const events: string[] = [];
  const contents: Content[] = [];
  const take = (piece: Uint8Array) => {
    bytes.set(piece, at);
    at += piece.length;
  };
  const reader = new TarReader({
    raw: take,
    content: take,
    entry: ({ xattrs, ...entry }) => {
      const shown = [...xattrs].map(([name, value]) => [name, Buffer.from(value).toString("hex")]);
      events.push(JSON.stringify([at, entry, shown]));
      if (entry.sizeBytes > 0) contents.push({ at, sizeBytes: entry.sizeBytes });
    },
    contentEnd: () => events.push(`end at ${at}`),
  });
  for (const piece of pieces) reader.write(piece);
  reader.finish();
  return { bytes: bytes.subarray(0, at), events, contents };
}

interface Content {
  readonly at: number;
  readonly sizeBytes: number;
}

/** As from a splitstream: contents are elsewhere, all else comes out as before. */
function checkSkipping(input: Uint8Array, contents: readonly Content[]): void {
  const raw: Uint8Array[] = [];
  const reader = new TarReader({
    raw: (bytes) => void raw.push(Uint8Array.from(bytes)),
    content: () => checkEqual(true, false, "Content that was skipped"),
    entry: () => {},
    contentEnd: () => {},
  });
  const rest: Uint8Array[] = [];
  let from = 0;
  for (const { at, sizeBytes } of contents) {
    rest.push(input.subarray(from, at));
    reader.write(input.subarray(from, at));
    checkEqual(reader.skipContent().sizeBytes, sizeBytes, "Size of a skipped content");
    from = at + sizeBytes;
  }
  rest.push(input.subarray(from));
  reader.write(input.subarray(from));
  reader.finish();
  checkSameBytes(Buffer.concat(raw), Buffer.concat(rest), "Bytes around skipped contents");
}

function* cutUp(input: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < input.length; ) {
    const end = at + 1 + ((input[at]! * 5 + at) % 700);
    yield input.subarray(at, end);
    at = end;
  }
}
