import { expect, test } from "vitest";
import { parseComposefsKargs } from "./composefs.ts";

const SHA512 = "0123456789abcdef".repeat(8);
const SHA256 = "fedcba9876543210".repeat(4);

test.each([
  ["nothing", "quiet root=UUID=1 composefs_backup=1 xcomposefs=2", []],
  [
    "the short form",
    `quiet composefs=${SHA512} rw`,
    [{ key: "composefs", digest: SHA512, algorithm: "sha512", optional: false }],
  ],
  [
    "fs-verity optional, SHA-256",
    `composefs=?${SHA256}`,
    [{ key: "composefs", digest: SHA256, algorithm: "sha256", optional: true }],
  ],
  [
    "quoted and upper case, as the kernel and composefs-rs read it",
    `composefs="${SHA256.toUpperCase()}"`,
    [{ key: "composefs", digest: SHA256, algorithm: "sha256", optional: false }],
  ],
  [
    "the long form comes first",
    `composefs=${SHA512} composefs.digest=?v2-sha256-12:${SHA256}`,
    [
      {
        key: "composefs.digest",
        digest: SHA256,
        algorithm: "sha256",
        optional: true,
        version: 2,
      },
      { key: "composefs", digest: SHA512, algorithm: "sha512", optional: false },
    ],
  ],
  ["not inside quotes of another word", `x="composefs=1 composefs=2"`, []],
])("parseComposefsKargs reads %s", (_, cmdline, expected) => {
  expect(parseComposefsKargs(cmdline)).toEqual(expected);
});

test.each([
  ["a bare word", "composefs", "64 or 128 hex digits, found 0"],
  ["an empty value", "composefs=", "64 or 128 hex digits, found 0"],
  ["a short digest", `composefs=${SHA256.slice(1)}`, "found 63 characters"],
  ["another character", `composefs=${SHA256.slice(1)}g`, "expected 64 hex digits, found"],
  ["a second question mark", `composefs=??${SHA256}`, "found 65 characters"],
  ["version 3", `composefs.digest=v3-sha256-12:${SHA256}`, 'expected "v1-sha512-12:"'],
  ["another block size", `composefs.digest=v1-sha256-16:${SHA256}`, 'expected "v1-sha512-12:"'],
  ["the wrong length", `composefs.digest=v1-sha512-12:${SHA256}`, "expected 128 hex digits"],
  ["the short form under the long key", `composefs.digest=${SHA256}`, 'expected "v1-sha512-12:"'],
  ["one malformed among good ones", `composefs=${SHA512} composefs=1`, "found 1 characters"],
])("parseComposefsKargs refuses %s", (_, cmdline, message) => {
  expect(() => parseComposefsKargs(cmdline)).toThrow(message);
});
