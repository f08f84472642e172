import { describe, expect, test } from "vitest";
import {
  chooseSealSigner,
  chooseStatement,
  requireOnlyCompletion,
  type SealOptions,
} from "./container-seal-options.ts";

const NONE: SealOptions = { mode: "sealed", signedUki: [], key: [], addon: [], karg: [] };
const KEYS = { securebootKey: "k", securebootCertificate: "c" };
const EPHEMERAL = { ephemeral: true, certificateOut: "c" } as const;

describe("who signs for Secure Boot", () => {
  test.each<[Partial<SealOptions>, object]>([
    [KEYS, { kind: "keys", key: "k", certificate: "c" }],
    [EPHEMERAL, { kind: "ephemeral", certificateOut: "c" }],
    [{ unsigned: true }, { kind: "unsigned", ukiOut: null }],
    [{ unsignedUkiOut: "u" }, { kind: "unsigned", ukiOut: "u" }],
    [
      { unsigned: true, unsignedUkiOut: "u" },
      { kind: "unsigned", ukiOut: "u" },
    ],
    [{ signedUki: ["s"] }, { kind: "signed", files: ["s"], certificate: null }],
    [
      { signedUki: ["s", "t"], securebootCertificate: "c" },
      { kind: "signed", files: ["s", "t"], certificate: "c" },
    ],
  ])("%j", (options, expected) => {
    expect(chooseSealSigner({ ...NONE, ...options })).toEqual(expected);
  });

  test.each<[Partial<SealOptions>, string]>([
    [
      {},
      "Who signs for Secure Boot? Give one of --secureboot-key, --ephemeral, --unsigned, --signed-uki",
    ],
    [{ ...KEYS, ...EPHEMERAL }, "not --secureboot-key and --ephemeral"],
    [{ unsigned: true, signedUki: ["s"] }, "not --unsigned and --signed-uki"],
    [{ securebootKey: "k" }, 'needs "--secureboot-certificate"'],
    [{ unsigned: true, securebootCertificate: "c" }, 'needs "--secureboot-key"'],
    [{ ephemeral: true }, 'needs "--certificate-out"'],
    [{ ...KEYS, certificateOut: "c" }, 'needs "--ephemeral"'],
  ])("%j is refused", (options, message) => {
    expect(() => chooseSealSigner({ ...NONE, ...options })).toThrow(message);
  });
});

describe("who signs the statement", () => {
  test.each<[Partial<SealOptions>, object | null]>([
    [{}, null],
    [{ mode: "signed" }, { keys: null, version: 1, expires: null }],
    [
      { mode: "signed", version: 7 },
      { keys: null, version: 7, expires: null },
    ],
    [
      { mode: "signed", key: ["k"], version: 7 },
      { keys: ["k"], version: 7, expires: null },
    ],
    [
      { key: ["k"], version: 7, expires: "t" },
      { keys: ["k"], version: 7, expires: "t" },
    ],
  ])("%j", (options, expected) => {
    expect(chooseStatement({ ...NONE, ...options })).toEqual(expected);
  });

  test.each<[Partial<SealOptions>, string]>([
    [{ key: ["k"] }, '"--key" needs "--version"'],
    [{ version: 7 }, 'need "--key" or "--mode signed"'],
    [{ expires: "t" }, 'need "--key" or "--mode signed"'],
  ])("%j is refused", (options, message) => {
    expect(() => chooseStatement({ ...NONE, ...options })).toThrow(message);
  });
});

test.each<Partial<SealOptions>>([
  { key: ["k"] },
  { addon: ["a"] },
  { karg: ["k"] },
  { sharedRuntime: true },
  { reseal: true },
  { allowMissingVerity: true },
  { version: 1 },
  { expires: "t" },
])("the second step of signing outside takes no %j", (options) => {
  const completion = { ...NONE, signedUki: ["s"] };
  expect(() => requireOnlyCompletion(completion)).not.toThrow();
  expect(() => requireOnlyCompletion({ ...completion, ...options })).toThrow("first step");
});
