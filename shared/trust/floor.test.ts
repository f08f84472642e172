import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StateError } from "../error.ts";
import { parseTrustAnchors, type TrustAnchors } from "../format/trust/anchors.ts";
import { makeTrustKey } from "../format/trust/key.ts";
import { formatSignedStatement, formatStatement } from "../format/trust/statement.ts";
import type { Tpm } from "../sys/tpm.ts";
import { ESP_FLOOR_FILE } from "./esp-floor.ts";
import { raiseFloor, readFloor } from "./floor.ts";

const SEED = Buffer.concat([
  Buffer.from("302e020100300506032b657004220420", "hex"),
  Buffer.alloc(32, 7),
]);
const privateKey = createPrivateKey({ key: SEED, format: "der", type: "pkcs8" });
const bytes = createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32);
const key = makeTrustKey(bytes, "vendor.pub");

function document(version: number): Uint8Array {
  const digest = "ab".repeat(64);
  const statement = {
    digest,
    algorithm: "sha512-12",
    format: "erofs-v1",
    version,
    expires: null,
  } as const;
  const signature = sign(null, Buffer.from(formatStatement(statement)), privateKey);
  return Buffer.from(
    formatSignedStatement(statement, [{ fingerprint: key.fingerprint, signature }]),
  );
}

function anchorsWith(counter: TrustAnchors["counter"], revoked = ""): TrustAnchors {
  return parseTrustAnchors({
    keys: new Map([["vendor.pub", Buffer.from(bytes).toString("base64")]]),
    revoked: new Map([["list", revoked]]),
    conf: `[image]\ncounter=${counter}\n`,
  });
}

let espPath: string;
const file = () => join(espPath, ESP_FLOOR_FILE);
beforeEach(() => {
  espPath = mkdtempSync(join(tmpdir(), "floor-"));
});
afterEach(() => rmSync(espPath, { recursive: true, force: true }));

/** No device there. */
const places = (counter: TrustAnchors["counter"] = "auto", revoked = "") => ({
  tpmPath: "/dev/no-tpm",
  espPath,
  anchors: anchorsWith(counter, revoked),
});
const NONE = { value: null, source: "none", tpmUsable: false, problems: [] };

describe("on the EFI system partition", () => {
  test("none at first, then the version of the statement, which only rises", () => {
    expect(readFloor(places())).toEqual(NONE);
    const raised = { value: 42, source: "esp", tpmUsable: false, problems: [] };
    expect(raiseFloor(places(), { version: 42, document: document(42) })).toEqual(raised);
    expect(raiseFloor(places(), { version: 42, document: document(42) })).toEqual(raised);
    expect(raiseFloor(places(), { version: 41, document: document(41) })).toEqual(raised);
    expect(readFloor(places())).toEqual(raised);
    expect(readFileSync(file())).toEqual(document(42));
    expect(raiseFloor(places(), { version: 50, document: document(50) }).value).toBe(50);
  });

  test.each([
    ["changed", () => Buffer.from(Buffer.from(document(42)).toString().replace("n: 42", "n: 99"))],
    ["cut short", () => document(42).subarray(0, 100)],
    ["noise", () => new Uint8Array(600)],
    ["too large", () => new Uint8Array(10_000)],
  ])("what is %s does not count, is told, and is replaced", (_, content) => {
    mkdirSync(join(file(), ".."), { recursive: true });
    writeFileSync(file(), content());
    const found = readFloor(places());
    expect(found).toMatchObject({ value: null, source: "none" });
    expect(found.problems).toHaveLength(1);
    expect(raiseFloor(places(), { version: 43, document: document(43) })).toMatchObject({
      value: 43,
      problems: [],
    });
  });

  test("a revoked image's statement counts, a revoked key's does not", () => {
    raiseFloor(places(), { version: 42, document: document(42) });
    expect(readFloor(places("auto", `digest ${"ab".repeat(64)}\n`)).value).toBe(42);
    const byRevokedKey = readFloor(places("auto", `key ${key.fingerprint}\n`));
    expect(byRevokedKey.value).toBeNull();
    expect(byRevokedKey.problems.join()).toContain("is revoked");
  });

  test("where it cannot be written is told", () => {
    writeFileSync(join(espPath, "EFI"), "a file in the way");
    const found = raiseFloor(places(), { version: 42, document: document(42) });
    expect(found.value).toBeNull();
    expect(found.problems.join()).toContain("Floor on the EFI system partition:");
  });
});

describe("trust.conf decides where", () => {
  const broken = (): Tpm => ({
    transact() {
      throw new StateError("command-failed", "The TPM is broken");
    },
    [Symbol.dispose]() {},
  });

  test("counter=none: nowhere", () => {
    expect(raiseFloor(places("none"), { version: 42, document: document(42) })).toEqual(NONE);
    expect(existsSync(file())).toBe(false);
  });

  test("counter=esp: no TPM is asked", () => {
    const found = readFloor({ ...places("esp"), openTpm: broken });
    expect(found).toEqual(NONE);
  });

  test("counter=tpm without one: the problem is told", () => {
    const found = readFloor(places("tpm"));
    expect(found).toEqual({ ...NONE, problems: ["There is no TPM (/dev/no-tpm)"] });
  });

  test("counter=auto: a TPM that does not answer is told, the other place counts", () => {
    raiseFloor(places(), { version: 42, document: document(42) });
    expect(readFloor({ ...places(), openTpm: broken })).toEqual({
      value: 42,
      source: "esp",
      tpmUsable: false,
      problems: ["The TPM is broken"],
    });
  });

  test("no place at all is no problem", () => {
    expect(readFloor({ ...places(), espPath: null, tpmPath: null })).toEqual(NONE);
  });
});
