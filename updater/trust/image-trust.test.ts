import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeImageTrust, makeTrustForms } from "../../test/support/image-trust.ts";
import { trustKey } from "../../test/support/trust-place.ts";
import type { System } from "../boot/system.ts";
import { readStartEvidence } from "./running-trust.ts";
import { findTpm, readSecureBoot } from "./secure-boot.ts";
import { formatTrustRecord, parseTrustRecord } from "./trust-record.ts";

const id = "ab".repeat(64);

describe("what a unified kernel adds", () => {
  const none = { cmdline: null, keys: null };
  const build = trustKey("build");

  test.each([
    ["its own key", { uki: { ...none, keys: build.pub } }, "ephemeral", 1, false],
    [
      "its own beside lasting ones",
      { keys: ["vendor"], uki: { ...none, keys: build.pub } },
      "signed",
      2,
      true,
    ],
    [
      "one that is known",
      { keys: ["build"], uki: { ...none, keys: build.pub } },
      "signed",
      1,
      true,
    ],
    [
      "one that is revoked",
      { revoked: [`key ${build.fingerprint}`], uki: { ...none, keys: build.pub } },
      "ephemeral",
      0,
      false,
    ],
    [
      "a command line without an image",
      { uki: { ...none, cmdline: "quiet" } },
      "unlocked",
      0,
      false,
    ],
  ])("%s", (_, options, form, keys, hasLastingKeys) => {
    const trust = makeImageTrust(options);
    expect(trust).toMatchObject({ form, hasLastingKeys, unified: true });
    expect(trust.anchors.keys).toHaveLength(keys);
    // Also with a revoked key only: then nothing starts, which is not the same as anything.
    expect(trust.anchors.signed).toBe(form !== "unlocked");
  });
});

describe("the record beside a deployment", () => {
  test.each(Object.entries(makeTrustForms(id)))("%s", (_, trust) => {
    expect(parseTrustRecord(Buffer.from(formatTrustRecord(trust)), "x")).toEqual(trust);
  });

  test.each(["", "{}", "[]", '{"form":"signed"}'])("%j is refused by its path", (text) => {
    expect(() => parseTrustRecord(Buffer.from(text), "/a/b")).toThrow('"/a/b"');
  });

  test("a key that is none is refused", () => {
    const text = formatTrustRecord(makeTrustForms(id).signed);
    const bad = text.replace(/"base64":"[^"]*"/, '"base64":"AAAA"');
    expect(() => parseTrustRecord(Buffer.from(bad), "/a/b")).toThrow("/a/b");
  });
});

describe("the machine", () => {
  const GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
  const SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23";
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "trust-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));
  const system = () =>
    ({
      sysfs: join(directory, "sys"),
      devices: directory,
      runDirectory: join(directory, "run"),
    }) as System;

  test.each([
    [
      "enabled",
      { [`SecureBoot-${GLOBAL}`]: [6, 0, 0, 0, 1], [`SetupMode-${GLOBAL}`]: [6, 0, 0, 0, 0] },
    ],
    [
      "disabled",
      { [`SecureBoot-${GLOBAL}`]: [6, 0, 0, 0, 0], [`SetupMode-${GLOBAL}`]: [6, 0, 0, 0, 0] },
    ],
    [
      "setup",
      { [`SecureBoot-${GLOBAL}`]: [6, 0, 0, 0, 0], [`SetupMode-${GLOBAL}`]: [6, 0, 0, 0, 1] },
    ],
    [
      "disabled",
      { [`SecureBoot-${GLOBAL}`]: [6, 0, 0, 0, 1], [`MokSBStateRT-${SHIM}`]: [6, 0, 0, 0, 1] },
    ],
    [
      "enabled",
      { [`SecureBoot-${GLOBAL}`]: [6, 0, 0, 0, 1], [`MokSBStateRT-${SHIM}`]: [6, 0, 0, 0, 0] },
    ],
    ["unsupported", {}],
    ["unsupported", { [`SecureBoot-${GLOBAL}`]: [1] }],
  ])("Secure Boot is %s: %j", (expected, variables) => {
    const path = join(directory, "sys/firmware/efi/efivars");
    mkdirSync(path, { recursive: true });
    for (const [name, bytes] of Object.entries(variables)) {
      writeFileSync(join(path, name), Buffer.from(bytes));
    }
    expect(readSecureBoot(system())).toBe(expected);
  });

  test("without EFI variables, and without a TPM", () => {
    expect(readSecureBoot(system())).toBe("unsupported");
    expect(findTpm(system())).toBeNull();
    writeFileSync(join(directory, "tpmrm0"), "");
    expect(findTpm(system())).toBe(join(directory, "tpmrm0"));
  });

  test("what prepare-root left counts for the deployment it names, also after a soft reboot", () => {
    const evidence = {
      ...{ mode: "unsigned", id, key: null, keyName: null, version: null, expires: null },
      ...{ verity: "optional", floor: { value: null, source: "none" }, warnings: [] },
    };
    const path = join(directory, "run/composefs");
    expect(readStartEvidence(system(), id)).toBeNull();
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "trust.json"), JSON.stringify(evidence));
    expect(readStartEvidence(system(), id)).toMatchObject({ mode: "unsigned" });
    expect(readStartEvidence(system(), "cd".repeat(64))).toBeNull();
    const next = { ...evidence, id: "cd".repeat(64), mode: "signed" };
    writeFileSync(join(path, "trust-next.json"), JSON.stringify(next));
    expect(readStartEvidence(system(), "cd".repeat(64))).toMatchObject({ mode: "signed" });
    writeFileSync(join(path, "trust.json"), "{");
    expect(() => readStartEvidence(system(), id)).toThrow("trust.json");
  });
});
