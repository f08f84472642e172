import { describe, expect, test } from "vitest";
import { makeImageTrust, makeTrustForms } from "../../test/support/image-trust.ts";
import { sign, trustKey } from "../../test/support/trust-place.ts";
import { describeOther, describeRunning, type TrustFacts } from "./deployment-trust.ts";
import { findNextMode } from "./next-mode.ts";
import type { StartEvidence } from "./running-trust.ts";
import type { SecureBoot } from "./secure-boot.ts";

const id = "ab".repeat(64);
const forms = makeTrustForms(id);
const key = trustKey("vendor");
const document = Buffer.from(sign(id, [key], { version: 42, expires: "2027-01-01T00:00:00Z" }));
const facts: TrustFacts = {
  ...{ id, image: forms.signed, secureBoot: "disabled", document, floor: null },
  verity: "enforced",
  now: new Date("2026-06-01T00:00:00Z"),
};
const evidence: StartEvidence = {
  ...{ mode: "signed", id, key: key.fingerprint, keyName: "vendor.pub", version: 42 },
  ...{ expires: "2027-01-01T00:00:00Z", verity: "enforced", warnings: [] },
};
const unsigned: StartEvidence = {
  ...evidence,
  ...{ mode: "unsigned", key: null, keyName: null, version: null, expires: null },
};
const signedBy = {
  key: { name: "vendor.pub", fingerprint: key.fingerprint },
  version: 42,
  expires: "2027-01-01T00:00:00Z",
};

describe("the running deployment: what prepare-root did counts", () => {
  test.each<[string, keyof typeof forms, SecureBoot, StartEvidence | null, object]>([
    ["signed", "signed", "disabled", evidence, { mode: "signed", sealed: false, ...signedBy }],
    [
      "keys in the image, but an initramfs that checked nothing",
      "signed",
      "enabled",
      null,
      { mode: "unlocked", key: null, version: null },
    ],
    ["the same, and it said so", "signed", "enabled", unsigned, { mode: "unlocked", key: null }],
    ["unlocked", "unlocked", "enabled", unsigned, { mode: "unlocked", sealed: false }],
    ["sealed", "sealed", "enabled", unsigned, { mode: "sealed", sealed: true, key: null }],
    [
      "sealed without Secure Boot",
      "sealed",
      "disabled",
      unsigned,
      { mode: "unlocked", sealed: true },
    ],
    ["sealed in setup mode", "sealed", "setup", unsigned, { mode: "unlocked", sealed: true }],
    [
      "sealed where nobody can tell",
      "sealed",
      "unsupported",
      null,
      { mode: "unlocked", sealed: true },
    ],
  ])("%s", (_, form, secureBoot, start, expected) => {
    const trust = describeRunning({ ...facts, image: forms[form], secureBoot }, start);
    expect(trust).toMatchObject({ ...expected, verity: "enforced", refusal: null });
  });

  test("sealed and with keys: both are told, and without Secure Boot the keys are what holds", () => {
    const image = makeImageTrust({
      keys: ["vendor"],
      uki: { cmdline: `composefs=${id}`, keys: null },
    });
    expect(describeRunning({ ...facts, image, secureBoot: "enabled" }, evidence)).toMatchObject({
      mode: "sealed",
      ...signedBy,
    });
    expect(describeRunning({ ...facts, image }, evidence)).toMatchObject({
      mode: "signed",
      sealed: true,
      ...signedBy,
    });
  });

  test("it runs, but would not start again", () => {
    const late = { ...facts, now: new Date("2027-06-01T00:00:00Z") };
    expect(describeRunning(late, evidence)).toMatchObject({
      mode: "signed",
      ...signedBy,
      refusal: expect.stringContaining("expired at 2027-01-01"),
    });
    expect(describeRunning({ ...facts, document: null }, evidence).refusal).toContain("not signed");
  });
});

describe("other deployments: what their initramfs will find", () => {
  test.each<[string, Partial<TrustFacts>, object]>([
    ["signed", {}, { mode: "signed", ...signedBy, refusal: null }],
    [
      "not signed",
      { document: null },
      { mode: "signed", key: null, refusal: expect.stringContaining("not signed") },
    ],
    [
      "too old",
      { floor: 43 },
      { mode: "signed", key: null, refusal: expect.stringContaining("none below 43") },
    ],
    [
      "unlocked with a statement",
      { image: forms.unlocked },
      { mode: "unlocked", key: null, refusal: null },
    ],
    ["sealed", { image: forms.sealed, secureBoot: "enabled" }, { mode: "sealed", refusal: null }],
    ["sealed without Secure Boot", { image: forms.sealed }, { mode: "unlocked", sealed: true }],
    ["nobody knows", { image: null }, { mode: "unlocked", sealed: false, refusal: null }],
  ])("%s", (_, changes, expected) => {
    expect(describeOther({ ...facts, ...changes })).toMatchObject(expected);
  });
});

describe("the next stronger mode", () => {
  const plain = {
    sealed: false,
    unified: false,
    secureBoot: "disabled",
    hasKeys: false,
    verity: "enforced",
  } as const;
  test.each<[string, Parameters<typeof findNextMode>[0], string, readonly RegExp[]]>([
    ["unlocked", { ...plain, mode: "unlocked" }, "signed", [/public key into .*keys\.d/]],
    [
      "with keys nobody read",
      { ...plain, mode: "unlocked", hasKeys: true },
      "signed",
      [/Rebuild the initramfs/],
    ],
    [
      "without fs-verity",
      { ...plain, mode: "unlocked", verity: "none" },
      "signed",
      [/public key/, /with fs-verity/],
    ],
    [
      "sealed, Secure Boot off",
      { ...plain, mode: "unlocked", sealed: true, unified: true },
      "sealed",
      [/Turn on Secure Boot/],
    ],
    [
      "sealed, setup mode",
      { ...plain, mode: "unlocked", sealed: true, unified: true, secureBoot: "setup" },
      "sealed",
      [/Enrol the keys/],
    ],
    ["signed", { ...plain, mode: "signed" }, "sealed", [/unified kernel/, /Turn on Secure Boot/]],
    [
      "signed, with Secure Boot",
      { ...plain, mode: "signed", secureBoot: "enabled" },
      "sealed",
      [/unified kernel/],
    ],
    [
      "signed with a unified kernel",
      { ...plain, mode: "signed", unified: true },
      "sealed",
      [/Turn on Secure Boot/],
    ],
    [
      "ostree",
      { ...plain, mode: "unlocked", isOstree: true },
      "ostree-signed",
      [/prepare-root\.conf/],
    ],
  ])("%s", (_, given, mode, needs) => {
    const next = findNextMode(given);
    expect(next?.mode).toBe(mode);
    expect(next?.needs).toEqual(needs.map((need) => expect.stringMatching(need)));
  });

  test.each<[string, Parameters<typeof findNextMode>[0]]>([
    ["sealed", { ...plain, mode: "sealed" }],
    ["ostree-signed", { ...plain, mode: "ostree-signed" }],
    [
      "signed, unified, Secure Boot",
      { ...plain, mode: "signed", unified: true, secureBoot: "enabled" },
    ],
  ])("%s is as strong as it gets", (_, given) => {
    expect(findNextMode(given)).toBeNull();
  });
});
