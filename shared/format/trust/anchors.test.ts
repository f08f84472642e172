import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { parseTrustAnchors } from "./anchors.ts";
import { parseTrustKeys } from "./key.ts";

const newKey = () =>
  generateKeyPairSync("ed25519").publicKey.export({ format: "pem", type: "spki" }) as string;
const pem = newKey();
const base64 = Buffer.from(parseTrustKeys(pem, "x")[0]!.bytes).toString("base64");
const privateKey = generateKeyPairSync("ed25519").privateKey.export({
  ...{ format: "pem", type: "pkcs8" },
}) as string;
const other = newKey();
const [key] = parseTrustKeys(pem, "a.pub");
const [otherKey] = parseTrustKeys(other, "b.pub");

function parse(
  keys: Record<string, string>,
  revoked: Record<string, string> = {},
  conf: string | null = null,
) {
  const files = { keys: new Map(Object.entries(keys)), revoked: new Map(Object.entries(revoked)) };
  return parseTrustAnchors({ ...files, conf });
}

test("an empty directory trusts nobody and revokes nothing", () => {
  expect(parse({})).toEqual({
    keys: [],
    signed: false,
    revokedDigests: new Set(),
    revokedKeys: new Set(),
    counter: "auto",
    expired: "refuse",
    allowMissingVerity: false,
  });
});

test("keys of several files, each once", () => {
  const anchors = parse({ "a.pub": pem, "b.pub": other, "c.pub": pem });
  expect(anchors.keys).toEqual([key, otherKey]);
  expect(anchors.signed).toBe(true);
});

test("a revoked key is gone, but the machine still wants signatures", () => {
  const revoked = { list: `# lost\nkey ${key!.fingerprint} # in a train\n` };
  expect(parse({ "a.pub": pem, "b.pub": other }, revoked).keys).toEqual([otherKey]);
  const none = parse({ "a.pub": pem }, revoked);
  expect(none.keys).toEqual([]);
  expect(none.signed).toBe(true);
  expect(none.revokedKeys).toEqual(new Set([key!.fingerprint]));
});

test("revoked digests of several files", () => {
  const short = "ab".repeat(32);
  const long = "cd".repeat(64);
  const { revokedDigests, signed } = parse(
    {},
    { x: `digest ${short}`, y: `\n digest  ${long}\t\n` },
  );
  expect(revokedDigests).toEqual(new Set([short, long]));
  expect(signed).toBe(false);
});

test("what lies beside the keys and is none", () => {
  expect(parse({ README: "keys of the vendor\n", "old.pem": "", "a.pub": pem }).keys).toEqual([
    key,
  ]);
  expect(parse({ README: "put keys here" }).signed).toBe(false);
});

test("as many files as there may be", () => {
  const many = Object.fromEntries(Array.from({ length: 256 }, (_, i) => [`${i}.pub`, pem]));
  expect(parse(many).keys).toHaveLength(1);
  expect(() => parse({ ...many, README: "" })).toThrow(
    '"keys.d" of the trust directory: it has more',
  );
  const lists = Object.fromEntries(Array.from({ length: 257 }, (_, i) => [`${i}`, ""]));
  expect(() => parse({}, lists)).toThrow('"revoked.d" of the trust directory: it has more');
});

test("trust.conf", () => {
  const conf = "[image]\ncounter=esp\nexpired = warn\nallow-missing-verity=true\n";
  const anchors = parse({}, {}, conf);
  expect(anchors).toMatchObject({ counter: "esp", expired: "warn", allowMissingVerity: true });
});

test.each<[string, Record<string, string>, Record<string, string>, string | null, string]>([
  ["a key that is none", { "a.pub": "x" }, {}, null, '"a.pub"'],
  ["a good and a bad key", { "a.pub": pem, "b.pub": "x" }, {}, null, '"b.pub"'],
  ["a key under another name", { "vendor.pem": pem }, {}, null, '"keys.d/vendor.pem"'],
  ["the same in base64", { vendor: `\n${base64}\r\n` }, {}, null, 'names that end in ".pub" count'],
  ["a private key beside", { "a.pub": pem, "a.key": privateKey }, {}, null, '"keys.d/a.key"'],
  ["capitals at the end", { "vendor.PUB": pem }, {}, null, '"keys.d/vendor.PUB"'],
  ["a short digest", {}, { r: "digest ab" }, null, '"revoked.d/r" of the trust directory: line 1'],
  ["a digest in capitals", {}, { r: `digest ${"AB".repeat(32)}` }, null, "line 1"],
  ["a digest with algorithm", {}, { r: `digest sha256:${"ab".repeat(32)}` }, null, "line 1"],
  ["a fingerprint of 128 digits", {}, { r: `#\nkey ${"ab".repeat(64)}` }, null, "line 2"],
  ["something else to revoke", {}, { r: `image ${"ab".repeat(32)}` }, null, "line 1"],
  ["a third word", {}, { r: `digest ${"ab".repeat(32)} x` }, null, "line 1"],
  ["a conf that is none", {}, {}, "counter=tpm", "before the first group"],
  ["an unknown counter", {}, {}, "[image]\ncounter=nv", "not one of auto, tpm, esp, none"],
  ["an unknown policy", {}, {}, "[image]\nexpired=allow", "not one of refuse, warn"],
  ["a word for true", {}, {}, "[image]\nallow-missing-verity=yes", "not one of false, true"],
  ["an unknown key", {}, {}, "[image]\nallow-missing-veritty=true", '"allow-missing-veritty"'],
  ["an unknown group", {}, {}, "[images]\ncounter=tpm", "[images]"],
])("refuses %s", (_, keys, revoked, conf, message) => {
  expect(() => parse(keys, revoked, conf)).toThrow(FormatError);
  expect(() => parse(keys, revoked, conf)).toThrow(message);
});
