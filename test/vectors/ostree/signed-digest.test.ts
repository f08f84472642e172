// Which image a signed commit names: commits that the real ostree made (objects/), signed with the keys
// of RFC 8032's kind below, and commits made here in the forms that bootc gives them.

import { createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findSignedDigest, type ReadCommitObject } from "../../../initrd/ostree/signed-digest.ts";
import { type Dictionary, encodeDictionary } from "../../../shared/format/gvariant/dictionary.ts";
import { encodeCommit } from "../../../shared/format/ostree/commit.ts";

const C1 = "a5fd93a1372c6eef30411d1ad8528d73a95cac2f8e7ac212ea70c62e5c3a7e31";
const C1_DIGEST = "1dc67481495218da046ec76dbf7fe647f83c4fcc5e21acbfa931ff1d913cf01c";
const C2 = "8928cf10fb333745148f996859944cb5ce63bd3fed0c11abaa9ea3e144d10b9b";
const C2_DIGEST = "8db67ab4a065943defd47c4435854ee765134630b67c6fdf9b10751f31f23dea";
/** Its seed is the bytes 0 to 31. */
const KEY = Buffer.from("A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=", "base64");
const WRONG_KEY = Buffer.from("Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=", "base64");
const PKCS8 = "302e020100300506032b657004220420";
const SEED = Buffer.from(Array.from({ length: 32 }, (_, index) => index));

const readVector: ReadCommitObject = (commit, kind) =>
  readFileSync(join(import.meta.dirname, "objects", `${commit}.${kind}`));

describe("commits of the real ostree", () => {
  test.each([
    [C1, C1_DIGEST],
    [C2, C2_DIGEST],
  ])("%s names its image", (commit, digest) => {
    expect(findSignedDigest(commit, [KEY], readVector)).toBe(digest);
    expect(findSignedDigest(commit, [WRONG_KEY, KEY], readVector)).toBe(digest);
  });

  test("another key, or the other commit's signature, is refused", () => {
    const message = "is signed by no key of this initramfs, or was changed";
    expect(() => findSignedDigest(C1, [WRONG_KEY], readVector)).toThrow(message);
    const exchanged: ReadCommitObject = (commit, kind) =>
      readVector(kind === "commit" ? commit : C2, kind);
    expect(() => findSignedDigest(C1, [KEY], exchanged)).toThrow(message);
  });

  test("every changed byte is found, wherever in the commit", () => {
    const good = Buffer.from(readVector(C1, "commit")!);
    for (let at = 0; at < good.length; at++) {
      const changed = Buffer.from(good);
      changed[at]! ^= 1;
      const read: ReadCommitObject = (commit, kind) =>
        kind === "commit" ? changed : readVector(commit, kind);
      expect(() => findSignedDigest(C1, [KEY], read), `byte ${at}`).toThrow("is signed by no key");
    }
  });
});

function signCommit(bytes: Uint8Array): Uint8Array {
  const der = Buffer.concat([Buffer.from(PKCS8, "hex"), SEED]);
  return sign(null, bytes, createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
}

const BASE = "b".repeat(64);
const MERGE = "e".repeat(64);
const digestOf = (byte: number): Dictionary => [
  ["ostree.composefs.digest.v0", { type: "ay", value: new Uint8Array(32).fill(byte) }],
];
const FROM_CONTAINER: Dictionary = [["ostree.container.image-config", { type: "s", value: "{}" }]];

function makeCommit(metadata: Dictionary, parent: string | null): Uint8Array {
  const hash = "0".repeat(64);
  const texts = { subject: "", body: "", timestampSec: 0, related: [] };
  return encodeCommit({ metadata, parent, tree: hash, meta: hash, ...texts });
}

/** Objects by "<commit>.<kind>". */
function makeReader(objects: Readonly<Record<string, Uint8Array>>): ReadCommitObject {
  return (commit, kind) => objects[`${commit}.${kind}`] ?? null;
}

function signatures(...values: readonly Uint8Array[]): Uint8Array {
  return encodeDictionary([["ostree.sign.ed25519", { type: "aay", value: values }]]);
}

describe("a commit that bootc has put on top of the image's", () => {
  const base = makeCommit(digestOf(1), null);
  const merge = makeCommit(FROM_CONTAINER, BASE);
  const signed = {
    [`${BASE}.commit`]: base,
    [`${BASE}.commitmeta`]: signatures(signCommit(base)),
    [`${MERGE}.commit`]: merge,
  };
  const notes = encodeDictionary([
    ["ostree-ext.cached.manifest-digest", { type: "s", value: "sha256:1" }],
  ]);

  test("the base commit's image counts", () => {
    expect(findSignedDigest(MERGE, [KEY], makeReader(signed))).toBe("01".repeat(32));
  });

  test("also when bootc keeps its notes where signatures would be", () => {
    const read = makeReader({ ...signed, [`${MERGE}.commitmeta`]: notes });
    expect(findSignedDigest(MERGE, [KEY], read)).toBe("01".repeat(32));
  });

  test("its own signature counts before the base's, good or bad", () => {
    const own = makeCommit([...FROM_CONTAINER, ...digestOf(2)], BASE);
    const objects = { ...signed, [`${MERGE}.commit`]: own };
    const read = (value: Uint8Array) =>
      makeReader({ ...objects, [`${MERGE}.commitmeta`]: signatures(value) });
    expect(findSignedDigest(MERGE, [KEY], read(signCommit(own)))).toBe("02".repeat(32));
    expect(() => findSignedDigest(MERGE, [KEY], read(new Uint8Array(64)))).toThrow(
      "Commit eeeeeeeeeeee is signed by no key",
    );
  });

  test.each([
    ["an unsigned base", { [`${BASE}.commitmeta`]: notes }, "is not signed"],
    [
      "a base signed by somebody else",
      { [`${BASE}.commitmeta`]: signatures(new Uint8Array(64)) },
      "Commit bbbbbbbbbbbb is signed by no key",
    ],
    [
      "a parent of an ordinary commit",
      { [`${MERGE}.commit`]: makeCommit([], BASE) },
      "is not signed",
    ],
    ["no parent", { [`${MERGE}.commit`]: makeCommit(FROM_CONTAINER, null) }, "is not signed"],
  ])("%s is refused", (_, changes, message) => {
    const read = makeReader({ ...signed, ...changes });
    expect(() => findSignedDigest(MERGE, [KEY], read)).toThrow(message);
  });
});

describe("a commit of one's own", () => {
  const commit = makeCommit(digestOf(3), null);
  const find = (meta: Uint8Array | undefined, bytes = commit) =>
    findSignedDigest(
      BASE,
      [KEY],
      makeReader({
        [`${BASE}.commit`]: bytes,
        ...(meta === undefined ? {} : { [`${BASE}.commitmeta`]: meta }),
      }),
    );

  test("is good with one good signature among others, of any length", () => {
    const good = signCommit(commit);
    const others = [new Uint8Array(), new Uint8Array(3), new Uint8Array(64), new Uint8Array(128)];
    expect(find(signatures(...others, good))).toBe("03".repeat(32));
  });

  test.each([
    ["no detached metadata", undefined, "is not signed"],
    ["an empty list of signatures", signatures(), "is signed by no key"],
    [
      "a signature of another type",
      encodeDictionary([["ostree.sign.ed25519", { type: "s", value: "x" }]]),
      "is not signed",
    ],
    [
      "another kind of signature",
      encodeDictionary([["ostree.sign.spki", { type: "aay", value: [signCommit(commit)] }]]),
      "is not signed",
    ],
    ["garbage", Buffer.from("garbage"), "GVariant"],
  ])("%s is refused", (_, meta, message) => {
    expect(() => find(meta)).toThrow(message);
  });

  test.each([
    ["no digest", [] as Dictionary],
    [
      "a digest that is too short",
      [["ostree.composefs.digest.v0", { type: "ay", value: new Uint8Array(31) }]] as Dictionary,
    ],
    [
      "a digest of another type",
      [["ostree.composefs.digest.v0", { type: "s", value: "x" }]] as Dictionary,
    ],
  ])("%s in a signed commit is refused", (_, metadata) => {
    const bytes = makeCommit(metadata, null);
    expect(() => find(signatures(signCommit(bytes)), bytes)).toThrow("names no image");
  });

  test("a missing commit is refused", () => {
    const read = makeReader({ [`${BASE}.commitmeta`]: signatures() });
    expect(() => findSignedDigest(BASE, [KEY], read)).toThrow("is not in the repository");
  });
});
