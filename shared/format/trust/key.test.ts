import { createHash, generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { isSignedBy } from "../ed25519/signature.ts";
import { describeKey, parseTrustKeys } from "./key.ts";

const pair = () => {
  const { publicKey } = generateKeyPairSync("ed25519");
  const pem = publicKey.export({ format: "pem", type: "spki" }) as string;
  const bytes = publicKey.export({ format: "der", type: "spki" }).subarray(12);
  return { pem, bytes, base64: bytes.toString("base64") };
};
const a = pair();
const b = pair();

test.each([
  ["PEM", a.pem, [a]],
  ["two blocks of PEM", a.pem + b.pem, [a, b]],
  ["PEM with CRLF", a.pem.replaceAll("\n", "\r\n"), [a]],
  ["a line of base64", `${a.base64}\n`, [a]],
  ["lines of base64", `${a.base64}\n\n${b.base64}`, [a, b]],
])("reads %s", (_, text, expected) => {
  const keys = parseTrustKeys(text, "release.pub");
  expect(keys.map(({ bytes }) => Buffer.from(bytes))).toEqual(expected.map(({ bytes }) => bytes));
  for (const key of keys) {
    expect(key.name).toBe("release.pub");
    expect(key.fingerprint).toBe(createHash("sha256").update(key.bytes).digest("hex"));
    expect(describeKey(key)).toBe(`${key.fingerprint.slice(0, 16)} ("release.pub")`);
  }
});

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey;
const ed448 = generateKeyPairSync("ed25519").privateKey;

test.each([
  ["nothing", "", "no key"],
  ["white space", "\n \n", "no key"],
  ["text", "hello", "neither PEM nor"],
  ["a comment", `# mine\n${a.base64}`, "neither PEM nor"],
  ["a short key", Buffer.alloc(31, 9).toString("base64"), "neither PEM nor"],
  ["a long key", Buffer.alloc(33, 9).toString("base64"), "neither PEM nor"],
  ["a key without padding", a.base64.replace("=", ""), "neither PEM nor"],
  ["two keys in a line", `${a.base64} ${b.base64}`, "neither PEM nor"],
  ["hex", Buffer.from(a.bytes).toString("hex"), "neither PEM nor"],
  ["PEM with text before", `mine\n${a.pem}`, "there is more in it"],
  ["PEM cut short", a.pem.slice(0, -10), "there is more in it"],
  ["RSA", rsa.export({ format: "pem", type: "spki" }) as string, "another public key"],
  ["garbage in PEM", a.pem.replace("MCow", "MCox"), "another public key"],
  [
    "a private key",
    ed448.export({ format: "pem", type: "pkcs8" }) as string,
    "holds a private key",
  ],
  ["more than 64 KiB", `${a.base64}\n`.repeat(2000), "larger than 64 KiB"],
])("refuses %s", (_, text, message) => {
  expect(() => parseTrustKeys(text, "k.pub")).toThrow(FormatError);
  expect(() => parseTrustKeys(text, "k.pub")).toThrow(message);
  expect(() => parseTrustKeys(text, "k.pub")).toThrow('"k.pub"');
});

/** R = 1, S = 0: good whenever the key times the message's hash is 1, once in eight messages or oftener. */
const forged = Buffer.concat([Buffer.from([1]), Buffer.alloc(63)]);

test.each([
  ["the point 1", "01".padEnd(64, "0")],
  ["one of order 2", `ec${"ff".repeat(30)}7f`],
  ["one of order 4", "00".repeat(32)],
  ["the other of order 4", `${"00".repeat(31)}80`],
  ["one of order 8", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"],
  ["another of order 8", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"],
])("refuses %s, for which signatures can be made without a private key", (_, hex) => {
  const bytes = Buffer.from(hex, "hex");
  const messages = Array.from({ length: 200 }, (_unused, index) => Buffer.from(`message ${index}`));
  expect(messages.some((message) => isSignedBy(bytes, message, forged))).toBe(true);
  expect(() => parseTrustKeys(bytes.toString("base64"), "k.pub")).toThrow("anybody can make");
});
