import { generateKeyPairSync, sign } from "node:crypto";
import { expect, test } from "vitest";
import { PolicyError } from "../../error.ts";
import type { TrustAnchors } from "./anchors.ts";
import { judgeImage } from "./judgement.ts";
import { makeTrustKey } from "./key.ts";
import { formatSignedStatement, formatStatement, type ImageStatement } from "./statement.ts";

function newSigner(name: string) {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const bytes = publicKey.export({ format: "der", type: "spki" }).subarray(12);
  return { key: makeTrustKey(bytes, name), privateKey };
}
type Signer = ReturnType<typeof newSigner>;

const old = newSigner("old.pub");
const current = newSigner("current.pub");
const stranger = newSigner("stranger.pub");
const id = "ab".repeat(64);
const otherId = "cd".repeat(64);
const now = new Date("2026-11-22T12:00:00Z");

const base: ImageStatement = {
  digest: id,
  algorithm: "sha512-12",
  format: "erofs-v1",
  version: 42,
  expires: null,
};

function makeDocument(statement: ImageStatement, ...signers: readonly Signer[]): Uint8Array {
  const text = Buffer.from(formatStatement(statement));
  const signatures = signers.map(({ key, privateKey }) => {
    return { fingerprint: key.fingerprint, signature: sign(null, text, privateKey) };
  });
  return Buffer.from(formatSignedStatement(statement, signatures));
}

function trust(keys: readonly Signer[], change: Partial<TrustAnchors> = {}): TrustAnchors {
  return {
    keys: keys.map(({ key }) => key),
    signed: keys.length > 0,
    revokedDigests: new Set(),
    revokedKeys: new Set(),
    counter: "auto",
    expired: "refuse",
    allowMissingVerity: false,
    ...change,
  };
}

interface Row {
  readonly anchors?: TrustAnchors;
  readonly document?: Uint8Array | null;
  readonly floor?: number;
  readonly algorithm?: string;
  readonly now?: Date;
}

function judge(row: Row) {
  const { anchors = trust([current]), document = makeDocument(base, current) } = row;
  return judgeImage({
    id,
    algorithm: row.algorithm ?? "sha512-12",
    anchors,
    document,
    floor: row.floor ?? null,
    now: row.now ?? now,
  });
}

const both = [old, current];
const until = (expires: string) => makeDocument({ ...base, expires }, current);
const oldRevoked = trust([current], { revokedKeys: new Set([old.key.fingerprint]) });

test.each<[string, Row, string | null, string[]]>([
  ["signed by the key", {}, "current.pub", []],
  ["one of two keys", { anchors: trust(both) }, "current.pub", []],
  [
    "two signatures, one key known",
    { document: makeDocument(base, old, current) },
    "current.pub",
    [],
  ],
  [
    "two signatures, one by a revoked key",
    { anchors: oldRevoked, document: makeDocument(base, old, current) },
    "current.pub",
    [],
  ],
  [
    "the old machine, both signed",
    { anchors: trust([old]), document: makeDocument(base, old, current) },
    "old.pub",
    [],
  ],
  ["exactly the floor", { floor: 42 }, "current.pub", []],
  ["above the floor", { floor: 41 }, "current.pub", []],
  ["not yet expired", { document: until("2026-11-22T12:00:01Z") }, "current.pub", []],
  [
    "expired, tolerated",
    { anchors: trust([current], { expired: "warn" }), document: until("2026-11-22T12:00:00Z") },
    "current.pub",
    ["Image abababababab expired at 2026-11-22T12:00:00Z: choose a newer one"],
  ],
  // Whoever sets the clock back can start it: nothing here knows better (docs/signing.md).
  [
    "a clock at 1970",
    { now: new Date(0), document: until("1999-12-31T23:59:59Z") },
    "current.pub",
    [],
  ],
  ["no keys, no statement", { anchors: trust([]), document: null }, null, []],
  [
    "no keys, a statement by a stranger",
    { anchors: trust([]), document: makeDocument(base, stranger) },
    null,
    [],
  ],
  ["no keys, garbage", { anchors: trust([]), document: Buffer.from("x"), floor: 99 }, null, []],
  [
    "another image is revoked",
    { anchors: trust([current], { revokedDigests: new Set([otherId]) }) },
    "current.pub",
    [],
  ],
])("accepts: %s", (_, row, name, warnings) => {
  const judgement = judge(row);
  expect(judgement.mode).toBe(name === null ? "unsigned" : "signed");
  expect(judgement.key?.name ?? null).toBe(name);
  expect(judgement.statement?.version ?? null).toBe(name === null ? null : 42);
  expect(judgement.warnings).toEqual(warnings);
});

/** Somebody who is not the vendor changes the text and leaves the signatures. */
function tamper(change: (text: string) => string): Uint8Array {
  return Buffer.from(change(Buffer.from(makeDocument(base, current)).toString()));
}

const revokedImage = { revokedDigests: new Set([id]) };
const forOther = makeDocument({ ...base, digest: otherId }, current);
const stolen = Buffer.from(makeDocument(base, stranger))
  .toString()
  .replace(stranger.key.fingerprint, current.key.fingerprint);

test.each<[string, Row, PolicyError["code"], string]>([
  ["revoked, though signed", { anchors: trust([current], revokedImage) }, "revoked", "is revoked"],
  [
    "revoked, and no keys",
    { anchors: trust([], revokedImage), document: null },
    "revoked",
    "is revoked",
  ],
  [
    "revoked comes before everything",
    { anchors: trust([current], revokedImage), document: forOther, floor: 99 },
    "revoked",
    "is revoked",
  ],
  ["no statement", { document: null }, "unsigned", "is not signed"],
  ["an empty file", { document: Buffer.alloc(0) }, "unsigned", "no usable statement"],
  ["garbage", { document: Buffer.from([0, 255, 10]) }, "unsigned", "no usable statement"],
  [
    "a statement nobody signed",
    { document: Buffer.from(formatStatement(base)) },
    "unsigned",
    "no signature",
  ],
  ["another image's statement", { document: forOther }, "wrong-image", "(cdcdcdcdcdcd)"],
  [
    "another image's statement, by a stranger, too old",
    { document: makeDocument({ ...base, digest: otherId }, stranger), floor: 99 },
    "wrong-image",
    "another one",
  ],
  ["another algorithm", { algorithm: "sha256-12" }, "wrong-image", "(sha512-12)"],
  [
    "a stranger",
    { document: makeDocument(base, stranger) },
    "untrusted-key",
    "by no key that is trusted",
  ],
  [
    "a stranger, and below the floor",
    { document: makeDocument(base, stranger), floor: 43 },
    "untrusted-key",
    stranger.key.fingerprint.slice(0, 16),
  ],
  ["a stranger under our name", { document: Buffer.from(stolen) }, "untrusted-key", "was changed"],
  [
    "a raised version",
    { document: tamper((t) => t.replace(": 42", ": 43")) },
    "untrusted-key",
    "was changed",
  ],
  [
    "another format",
    { document: tamper((t) => t.replace("erofs-v1", "erofs-v2")) },
    "untrusted-key",
    "was changed",
  ],
  [
    "an expiry taken away",
    {
      document: Buffer.from(
        Buffer.from(until("2020-01-01T00:00:00Z"))
          .toString()
          .replace(/expires.*\n/, ""),
      ),
    },
    "untrusted-key",
    "was changed",
  ],
  ["a revoked key", { anchors: oldRevoked, document: makeDocument(base, old) }, "revoked", "key"],
  [
    "all keys revoked",
    { anchors: { ...oldRevoked, keys: [], signed: true }, document: makeDocument(base, old) },
    "revoked",
    `key ${old.key.fingerprint.slice(0, 16)}, which is revoked`,
  ],
  [
    "all keys revoked, no statement",
    { anchors: { ...oldRevoked, keys: [], signed: true }, document: null },
    "unsigned",
    "is not signed",
  ],
  [
    "below the floor",
    { floor: 43 },
    "downgrade",
    "has version 42, and this machine starts none below 43",
  ],
  [
    "below the floor and expired",
    { floor: 43, document: until("2020-01-01T00:00:00Z") },
    "downgrade",
    "none below 43",
  ],
  [
    "expired this second",
    { document: until("2026-11-22T12:00:00Z") },
    "expired",
    "expired at 2026-11-22",
  ],
  ["at the very millisecond", { document: until("2026-11-22T12:00:00Z") }, "expired", "expired at"],
  [
    "a second later",
    { now: new Date("2026-11-22T12:00:01.001Z"), document: until("2026-11-22T12:00:01Z") },
    "expired",
    "expired at",
  ],
  ["expired long ago", { document: until("1999-12-31T23:59:59Z") }, "expired", "expired at 1999"],
])("refuses: %s", (_, row, code, message) => {
  try {
    judge(row);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(PolicyError);
    expect((error as PolicyError).code).toBe(code);
    expect((error as PolicyError).message).toContain(message);
    expect((error as PolicyError).message).toMatch(/^Image abababababab [\x20-\x7e]+$/);
  }
});

test("a signature of the same bytes under another domain counts for nothing", () => {
  const foreign = Buffer.from(formatStatement(base).replace("bootc-ts image", "bootc-ts floor"));
  const signature = sign(null, foreign, current.privateKey);
  const { fingerprint } = current.key;
  const document = Buffer.from(formatSignedStatement(base, [{ fingerprint, signature }]));
  expect(() => judge({ document })).toThrow("was changed");
});
