import { describe, expect, test } from "vitest";
import { PolicyError } from "../../shared/error.ts";
import { makeImageTrust, makeTrustForms } from "../../test/support/image-trust.ts";
import { sign, trustKey } from "../../test/support/trust-place.ts";
import { type AdmissionRequest, admitImage, requireStatement } from "./admission.ts";

const id = "ab".repeat(64);
const other = "cd".repeat(64);
const now = new Date("2026-06-01T00:00:00Z");
const forms = makeTrustForms(id);
const vendor = makeImageTrust({ keys: ["vendor"] });
const by = (names: readonly string[], fields = {}, image = id) =>
  Buffer.from(
    sign(
      image,
      names.map((name) => trustKey(name)),
      fields,
    ),
  );

function ask(changes: Partial<AdmissionRequest>): AdmissionRequest {
  return {
    ...{ id, now, image: vendor, running: null, documents: [], gap: null },
    ...{ ownFloor: null, runningFloor: null, allowWeaker: false },
    ...changes,
  };
}

/** The code and text of a refusal, or "admitted". */
function outcome(changes: Partial<AdmissionRequest>): string {
  try {
    admitImage(ask(changes));
    return "admitted";
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

describe("what its own initramfs would refuse is not deployed", () => {
  test.each<[string, Partial<AdmissionRequest>, RegExp]>([
    ["signed", { documents: [by(["vendor"])] }, /^admitted$/],
    ["not signed", {}, /^unsigned: .*its own initramfs would refuse it/],
    ["by a key it does not know", { documents: [by(["thief"])] }, /^untrusted-key: /],
    ["for another image", { documents: [by(["vendor"], {}, other)] }, /^wrong-image: /],
    ["rubbish", { documents: [Buffer.from("x")] }, /^unsigned: .*begins with "x"/],
    [
      "expired",
      { documents: [by(["vendor"], { expires: "2026-05-01T00:00:00Z" })] },
      /^expired: .*2026-05-01/,
    ],
    [
      "below the floor",
      { documents: [by(["vendor"], { version: 4 })], ownFloor: 5 },
      /^downgrade: .*version 4.*below 5/,
    ],
    ["at the floor", { documents: [by(["vendor"], { version: 5 })], ownFloor: 5 }, /^admitted$/],
    [
      "revoked by itself",
      { documents: [by(["vendor"])], image: makeImageTrust({ revoked: [`digest ${id}`] }) },
      /^revoked: /,
    ],
    [
      "by a key it revokes",
      {
        documents: [by(["vendor"])],
        image: makeImageTrust({
          keys: ["vendor", "next"],
          revoked: [`key ${trustKey("vendor").fingerprint}`],
        }),
      },
      /^revoked: .*by key/,
    ],
    ["with a key of its own only", { image: forms.ephemeral }, /^unsigned: /],
    [
      "with a key of its own, signed by it",
      { image: forms.ephemeral, documents: [by(["build"])] },
      /^admitted$/,
    ],
    ["without keys", { image: forms.unlocked }, /^admitted$/],
    ["sealed without keys", { image: forms.sealed }, /^admitted$/],
  ])("%s", (_, changes, expected) => {
    expect(outcome(changes)).toMatch(expected);
    // Nobody can allow what would not start.
    expect(outcome({ ...changes, allowWeaker: true })).toMatch(expected);
  });
});

describe("from a running system, never to less than it is", () => {
  const signed = [by(["vendor"])];
  test.each<[keyof typeof forms, keyof typeof forms, "fine" | RegExp]>([
    ["unlocked", "unlocked", "fine"],
    ["unlocked", "signed", "fine"],
    ["unlocked", "sealed", "fine"],
    ["signed", "signed", "fine"],
    ["signed", "signed-uki", "fine"],
    ["signed", "sealed", "fine"],
    ["signed", "unlocked", /rejected: .*nothing would check it when it starts/],
    ["signed", "ephemeral", "fine"],
    ["signed-uki", "signed", /rejected: .*separate files/],
    ["signed-uki", "sealed", "fine"],
    ["sealed", "sealed", "fine"],
    ["sealed", "ephemeral", "fine"],
    ["sealed", "signed-uki", "fine"],
    ["sealed", "signed", /rejected: .*separate files/],
    ["sealed", "unlocked", /rejected: .*nothing would check it.*is sealed/],
    ["ephemeral", "ephemeral", "fine"],
    ["ephemeral", "sealed", "fine"],
    ["ephemeral", "signed", /rejected: .*separate files/],
    ["ephemeral", "unlocked", /rejected: .*is signed/],
  ])("%s to %s", (from, to, expected) => {
    const documents = [by(["vendor", "build"]), ...signed];
    const changes = { running: forms[from], image: forms[to], documents };
    const found = outcome(changes);
    if (expected === "fine") expect(found).toBe("admitted");
    else expect(found).toMatch(expected);
    if (expected !== "fine") expect(found).toContain('"--allow-weaker-trust"');
    const allowed = admitImage(ask({ ...changes, allowWeaker: true }));
    expect(allowed.warnings).toHaveLength(expected === "fine" ? 0 : 1);
  });

  test.each<[string, Partial<AdmissionRequest>, RegExp]>([
    [
      "signed by others, sealed",
      { image: forms.sealed, documents: [by(["thief"])] },
      /^untrusted-key: /,
    ],
    ["not signed, sealed", { image: forms.sealed }, /^unsigned: .*--allow-weaker-trust/],
    [
      "its own key accepts it, ours does not",
      { image: makeImageTrust({ keys: ["thief"] }), documents: [by(["thief"])] },
      /^untrusted-key: .*signed by no key that is trusted here/,
    ],
    [
      "older than the running floor allows, and its own initramfs does not count",
      {
        image: makeImageTrust({ keys: ["vendor"], conf: ["counter=none"] }),
        documents: [by(["vendor"], { version: 4 })],
        runningFloor: 5,
      },
      /^downgrade: .*below 5/,
    ],
  ])("%s", (_, changes, expected) => {
    const request = { running: vendor, ...changes };
    expect(outcome(request)).toMatch(expected);
    expect(outcome({ ...request, allowWeaker: true })).toBe("admitted");
  });

  test("what the running system revokes, nobody can allow", () => {
    const running = makeImageTrust({ keys: ["vendor"], revoked: [`digest ${id}`] });
    const request = { running, documents: [by(["vendor"])], allowWeaker: true };
    expect(outcome(request)).toMatch(/^revoked: .*by the running system/);
    const unlocked = makeImageTrust({ revoked: [`digest ${id}`] });
    expect(outcome({ ...request, running: unlocked })).toMatch(/^revoked: /);
  });
});

describe("which statement is kept", () => {
  const documentOf = (changes: Partial<AdmissionRequest>) =>
    admitImage(ask(changes)).document?.toString() ?? null;

  test("one both accept goes before a newer one that only its initramfs accepts", () => {
    const image = makeImageTrust({ keys: ["vendor", "next"] });
    const both = by(["vendor"], { version: 3 });
    const documents = [by(["next"], { version: 9 }), both];
    expect(documentOf({ image, running: vendor, documents })).toBe(both.toString());
    expect(documentOf({ image, documents })).toBe(documents[0]!.toString());
  });

  test("the higher version, then the later end", () => {
    const old = by(["vendor"], { version: 2 });
    const soon = by(["vendor"], { version: 3, expires: "2026-07-01T00:00:00Z" });
    const late = by(["vendor"], { version: 3, expires: "2027-07-01T00:00:00Z" });
    const never = by(["vendor"], { version: 3 });
    expect(documentOf({ documents: [old, soon, late] })).toBe(late.toString());
    expect(documentOf({ documents: [soon, never, late] })).toBe(never.toString());
  });

  test("an expired one does not hide its successor", () => {
    const gone = by(["vendor"], { version: 9, expires: "2026-05-01T00:00:00Z" });
    const valid = by(["vendor"], { version: 3 });
    expect(documentOf({ documents: [gone, valid] })).toBe(valid.toString());
  });

  test("rotation: old and new key signed apart, the machine knows one and the image the other", () => {
    const image = makeImageTrust({ keys: ["next"] });
    const documents = [by(["vendor"]), by(["next"])];
    expect(documentOf({ image, running: vendor, documents })).toBe(
      by(["vendor", "next"]).toString(),
    );
  });

  test("bad signatures by the same key, in front and more than there is room for", () => {
    const good = by(["vendor"]);
    const bad = Buffer.from(
      good
        .toString()
        .replace(/(signature: [0-9a-f]{64} )(.*)/, `$1${Buffer.alloc(64, 7).toString("base64")}`),
    );
    const crowd = by(["1", "2", "3", "4", "5", "6", "7", "8"]);
    const kept = documentOf({ documents: [bad, crowd, good] })!;
    expect(kept).toContain(good.toString().split("\n")[5]);
    expect(kept.match(/^signature: /gm)).toHaveLength(8);
    expect(outcome({ documents: [bad, crowd] })).toMatch(/^untrusted-key: /);
  });

  test("without keys: only what is about this image", () => {
    const own = by(["vendor"]);
    const image = forms.unlocked;
    expect(documentOf({ image, documents: [by(["vendor"], {}, other), own] })).toBe(own.toString());
    expect(documentOf({ image, documents: [by(["vendor"], {}, other)] })).toBeNull();
    expect(documentOf({ image })).toBeNull();
  });
});

describe("where not all statements could be looked for", () => {
  const gap = "not all of them came (status 500)";
  const remedy = /; not all of them came \(status 500\): try again when that works/;

  test("what was found is enough when it is good", () => {
    expect(outcome({ gap, documents: [by(["vendor"])] })).toBe("admitted");
    expect(outcome({ gap, image: forms.unlocked })).toBe("admitted");
  });

  test.each<[string, Partial<AdmissionRequest>, RegExp]>([
    ["none was found", {}, /^unsigned: No statement of image \w{12} was found; its own initramfs/],
    ["one of another", { documents: [by(["thief"])] }, /^untrusted-key: /],
    [
      "none, and what runs has keys",
      { image: forms.unlocked, running: vendor },
      /^unsigned: Image \w{12} is not signed/,
    ],
  ])("%s", (_, changes, expected) => {
    expect(outcome({ gap, ...changes })).toMatch(expected);
    expect(outcome({ gap, ...changes })).toMatch(remedy);
  });

  test("a revoked image is revoked, whatever else might come", () => {
    const revoked = makeImageTrust({ keys: ["vendor"], revoked: [`digest ${id}`] });
    expect(outcome({ gap, image: revoked })).toMatch(/^revoked: (?!.*not all of them)/);
  });
});

describe("before anything is fetched", () => {
  const check = (documents: readonly Buffer[], changes = {}) =>
    requireStatement(
      { ...{ allowWeaker: false, documents, gap: null, now, runningFloor: 5 }, ...changes },
      vendor,
    );

  test.each<[string, readonly Buffer[]]>([
    ["for whatever image", [by(["vendor"], {}, other)]],
    ["one of several", [Buffer.from("x"), by(["thief"]), by(["vendor"])]],
  ])("%s", (_, documents) => {
    expect(() => check(documents)).not.toThrow();
  });

  test.each<[string, readonly Buffer[], RegExp]>([
    ["none", [], /wants|not signed.*--allow-weaker-trust/],
    ["rubbish", [Buffer.from("x")], /statement is unusable: .*--allow-weaker-trust/],
    ["by others", [by(["thief"])], /signed by no key that is trusted here/],
    ["too old", [by(["vendor"], { version: 4 })], /none below 5/],
    ["the nearest reason", [by(["thief"]), by(["vendor"], { version: 4 })], /none below 5/],
  ])("%s is refused", (_, documents, expected) => {
    expect(() => check(documents)).toThrow(expected);
    expect(() => check(documents, { allowWeaker: true })).not.toThrow();
  });

  test.each<[string, readonly Buffer[], RegExp]>([
    ["none", [], /no statement of it was found; /],
    ["by others", [by(["thief"])], /signed by no key that is trusted here.*; /],
  ])("%s, and there may be more: says so, and to try again", (_, documents, expected) => {
    const asking = () => check(documents, { gap: "not all of them came (status 500)" });
    expect(asking).toThrow(expected);
    expect(asking).toThrow(/; not all of them came \(status 500\): try again when that works/);
    expect(asking).not.toThrow(/allow-weaker-trust/);
    expect(() => check([by(["vendor"])], { gap: "x" })).not.toThrow();
  });

  test("nothing is asked where the machine has no lasting keys", () => {
    const request = { allowWeaker: false, documents: [], gap: null, now, runningFloor: null };
    for (const form of ["unlocked", "sealed", "ephemeral"] as const) {
      expect(() => requireStatement(request, forms[form])).not.toThrow();
    }
  });
});
