// The version floor in a real TPM's answers (swtpm): where it begins, that it only rises, that it may be
// cut short between any two commands, and what is done about an index or a counter that is not ours.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { encodeFloorPolicy } from "../../shared/format/tpm/floor-policy.ts";
import { parseTrustAnchors } from "../../shared/format/trust/anchors.ts";
import {
  defineNvCounter,
  incrementNvCounter,
  readNvCounter,
  readNvIndex,
  type Tpm,
  undefineNvCounter,
} from "../../shared/sys/tpm.ts";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { raiseFloor, readFloor } from "../../shared/trust/floor.ts";
import { FLOOR_INDEX, raiseTpmFloor, readTpmFloor } from "../../shared/trust/tpm-floor.ts";
import { type Swtpm, startSwtpm } from "../support/swtpm.ts";
import { sign, trustKey } from "../support/trust-place.ts";

const OTHER_INDEX = 0x01500b77;
const POLICY = new Uint8Array(32);

let scratch: string;
let swtpm: Swtpm;
let tpm: Tpm;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "tpm-"));
  swtpm = await startSwtpm(scratch);
  tpm = swtpm.open();
});
afterAll(async () => {
  tpm?.[Symbol.dispose]();
  await swtpm?.[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
});
beforeEach(() => {
  for (const index of [FLOOR_INDEX, OTHER_INDEX]) {
    if (readNvIndex(tpm, index).kind !== "none") undefineNvCounter(tpm, index);
  }
});

/** A TPM whose machine loses power before command number `commands` + 1. */
function cutAfter(commands: number): Tpm & { readonly sent: () => number } {
  let sent = 0;
  return {
    transact(command) {
      if (sent === commands) throw new Error("power cut");
      sent++;
      return tpm.transact(command);
    },
    sent: () => sent,
    [Symbol.dispose]() {},
  };
}

/** Another counter of this TPM goes up, so that new ones begin later. */
function countElsewhere(times: number): void {
  if (readNvIndex(tpm, OTHER_INDEX).kind === "none") defineNvCounter(tpm, OTHER_INDEX, POLICY);
  for (let i = 0; i < times; i++) incrementNvCounter(tpm, OTHER_INDEX);
}

/** Between the definition of the floor's index and its first increment somebody else makes a counter. */
function busyTpm(disturbs: () => boolean): Tpm {
  const [define, increment] = [0x12a, 0x134];
  let last = 0;
  return {
    transact(command) {
      const code = Buffer.from(command).readUInt32BE(6);
      if (last === define && code === increment && disturbs()) {
        countElsewhere(1);
        undefineNvCounter(tpm, OTHER_INDEX);
      }
      last = code;
      return tpm.transact(command);
    },
    [Symbol.dispose]() {},
  };
}

describe("NV counters", () => {
  test("are made, counted, read and removed", () => {
    expect(readNvIndex(tpm, OTHER_INDEX)).toEqual({ kind: "none" });
    defineNvCounter(tpm, OTHER_INDEX, POLICY);
    expect(readNvIndex(tpm, OTHER_INDEX)).toEqual({
      kind: "counter",
      policy: POLICY,
      written: false,
    });
    expect(readNvCounter(tpm, OTHER_INDEX)).toBeNull();
    incrementNvCounter(tpm, OTHER_INDEX);
    const first = readNvCounter(tpm, OTHER_INDEX)!;
    incrementNvCounter(tpm, OTHER_INDEX);
    expect(readNvCounter(tpm, OTHER_INDEX)).toBe(first + 1n);
    expect(readNvIndex(tpm, OTHER_INDEX)).toMatchObject({ written: true });
    undefineNvCounter(tpm, OTHER_INDEX);
    expect(readNvIndex(tpm, OTHER_INDEX)).toEqual({ kind: "none" });
  });

  test("begin after every counter that there ever was", () => {
    countElsewhere(3);
    const last = readNvCounter(tpm, OTHER_INDEX)!;
    undefineNvCounter(tpm, OTHER_INDEX);
    countElsewhere(1);
    expect(readNvCounter(tpm, OTHER_INDEX)).toBe(last + 1n);
  });

  test("refusals say why", () => {
    const missing = "0x1500b77 of the TPM: TPM error 0x18b, there is no such index";
    expect(() => incrementNvCounter(tpm, OTHER_INDEX)).toThrow(
      `Cannot increment the counter ${missing}`,
    );
    defineNvCounter(tpm, OTHER_INDEX, POLICY);
    const taken = "TPM error 0x14c, the index is defined already";
    expect(() => defineNvCounter(tpm, OTHER_INDEX, POLICY)).toThrow(taken);
  });

  test("an owner's password is named", () => {
    // TPM2_HierarchyChangeAuth of the owner.
    const setPassword = (before: string, after: string) => {
      const sized = (text: string) => hex16(text.length) + Buffer.from(text).toString("hex");
      const session = `40000009${hex16(0)}00${sized(before)}`;
      const body = `0000012940000001${hex32(session.length / 2)}${session}${sized(after)}`;
      const command = `8002${hex32(6 + body.length / 2)}${body}`;
      return Buffer.from(tpm.transact(Buffer.from(command, "hex"))).readUInt32BE(6);
    };
    expect(setPassword("", "x")).toBe(0);
    try {
      const message = /Cannot make the counter .*the owner of the TPM has a password/;
      expect(() => defineNvCounter(tpm, OTHER_INDEX, POLICY)).toThrow(message);
    } finally {
      expect(setPassword("x", "")).toBe(0);
    }
  });
});

describe("the floor", () => {
  test("is none at first", () => {
    expect(readTpmFloor(tpm)).toBeNull();
  });

  test.each([1, 2, 42, 1_000_000, Number.MAX_SAFE_INTEGER])("begins at version %d", (version) => {
    countElsewhere(2);
    raiseTpmFloor(tpm, version);
    expect(readTpmFloor(tpm)).toBe(version);
  });

  test("rises step by step and never sinks", () => {
    raiseTpmFloor(tpm, 42);
    raiseTpmFloor(tpm, 45);
    expect(readTpmFloor(tpm)).toBe(45);
    raiseTpmFloor(tpm, 7);
    expect(readTpmFloor(tpm)).toBe(45);
  });

  test("does not depend on other counters", () => {
    raiseTpmFloor(tpm, 42);
    countElsewhere(5);
    expect(readTpmFloor(tpm)).toBe(42);
    raiseTpmFloor(tpm, 43);
    expect(readTpmFloor(tpm)).toBe(43);
  });

  test("does not go up by more steps than a TPM can take", () => {
    raiseTpmFloor(tpm, 1);
    expect(() => raiseTpmFloor(tpm, 10_002)).toThrow("that is more than 10000 steps");
    expect(readTpmFloor(tpm)).toBe(1);
  });

  test("is made again when counters elsewhere are made at the same time", () => {
    let disturbances = 0;
    const busy = busyTpm(() => disturbances++ < 2);
    raiseTpmFloor(busy, 42);
    expect(disturbances).toBeGreaterThan(2);
    expect(readTpmFloor(tpm)).toBe(42);
  });

  test("that is always disturbed is given up, and none is left", () => {
    const message = "others made counters at the same time, 4 times";
    expect(() =>
      raiseTpmFloor(
        busyTpm(() => true),
        42,
      ),
    ).toThrow(message);
    expect(readTpmFloor(tpm)).toBeNull();
  });

  test("may lose power before every command of its making", () => {
    const whole = cutAfter(Number.POSITIVE_INFINITY);
    raiseTpmFloor(whole, 42);
    expect(whole.sent()).toBeGreaterThan(8);
    for (let commands = 0; commands < whole.sent(); commands++) {
      if (readNvIndex(tpm, FLOOR_INDEX).kind !== "none") undefineNvCounter(tpm, FLOOR_INDEX);
      expect(() => raiseTpmFloor(cutAfter(commands), 42)).toThrow("power cut");
      // What the next start sees: no floor, or the right one.
      expect([null, 42]).toContain(readTpmFloor(tpm));
      raiseTpmFloor(tpm, 42);
      expect(readTpmFloor(tpm)).toBe(42);
    }
  });

  test("may lose power before every command of a raise", () => {
    for (let commands = 0; commands < 10; commands++) {
      if (readNvIndex(tpm, FLOOR_INDEX).kind !== "none") undefineNvCounter(tpm, FLOOR_INDEX);
      raiseTpmFloor(tpm, 42);
      try {
        raiseTpmFloor(cutAfter(commands), 45);
      } catch {}
      const between = readTpmFloor(tpm)!;
      expect(between).toBeGreaterThanOrEqual(42);
      expect(between).toBeLessThanOrEqual(45);
      raiseTpmFloor(tpm, 45);
      expect(readTpmFloor(tpm)).toBe(45);
    }
  });

  test("a probe that was left, however high it counts, is no floor", () => {
    defineNvCounter(tpm, FLOOR_INDEX, encodeFloorPolicy({ kind: "probe", base: 0n }));
    incrementNvCounter(tpm, FLOOR_INDEX);
    expect(readTpmFloor(tpm)).toBeNull();
    raiseTpmFloor(tpm, 5);
    expect(readTpmFloor(tpm)).toBe(5);
  });

  test("an index of somebody else is left alone", () => {
    defineNvCounter(tpm, FLOOR_INDEX, POLICY);
    incrementNvCounter(tpm, FLOOR_INDEX);
    const before = readNvCounter(tpm, FLOOR_INDEX);
    const message = "The TPM's index 0x1500b00 is used by something else: remove it, or";
    expect(() => readTpmFloor(tpm)).toThrow(message);
    expect(() => raiseTpmFloor(tpm, 42)).toThrow(message);
    expect(readNvCounter(tpm, FLOOR_INDEX)).toBe(before);
  });

  test("an index of another kind is somebody else's", () => {
    // TPM2_NV_DefineSpace of 8 ordinary bytes, which nobody can count with; no policy.
    const parts = [
      "8002",
      "0000002d",
      "0000012a",
      "40000001",
      "00000009",
      "40000009",
      "0000",
      "00",
    ];
    const index = ["0000", "0000", "000e", "01500b00", "000b", "00060006", "0000", "0008"];
    const answer = tpm.transact(Buffer.from([...parts, ...index].join(""), "hex"));
    expect(Buffer.from(answer).readUInt32BE(6)).toBe(0);
    expect(readNvIndex(tpm, FLOOR_INDEX)).toEqual({ kind: "foreign" });
    expect(() => readTpmFloor(tpm)).toThrow("is used by something else");
  });

  test("a counter that others increment goes up, as nothing in a TPM can forbid it", () => {
    raiseTpmFloor(tpm, 42);
    incrementNvCounter(tpm, FLOOR_INDEX);
    expect(readTpmFloor(tpm)).toBe(43);
    raiseTpmFloor(tpm, 43);
    expect(readTpmFloor(tpm)).toBe(43);
  });

  test("a counter that was removed and made again by the TPM's owner is a lower floor", () => {
    raiseTpmFloor(tpm, 42);
    undefineNvCounter(tpm, FLOOR_INDEX);
    expect(readTpmFloor(tpm)).toBeNull();
    countElsewhere(1);
    const first = readNvCounter(tpm, OTHER_INDEX)! + 1n;
    undefineNvCounter(tpm, OTHER_INDEX);
    defineNvCounter(tpm, FLOOR_INDEX, encodeFloorPolicy({ kind: "floor", base: first - 1n }));
    expect(readTpmFloor(tpm)).toBeNull();
    incrementNvCounter(tpm, FLOOR_INDEX);
    expect(readTpmFloor(tpm)).toBe(1);
  });

  test("a base that gives no version is told", () => {
    defineNvCounter(tpm, FLOOR_INDEX, encodeFloorPolicy({ kind: "floor", base: 1n << 60n }));
    incrementNvCounter(tpm, FLOOR_INDEX);
    expect(() => readTpmFloor(tpm)).toThrow("is no version");
  });
});

describe("with a TPM and an EFI system partition", () => {
  const anchors = parseTrustAnchors({
    keys: new Map([["vendor.pub", trustKey("vendor").pub]]),
    revoked: new Map(),
    conf: "[image]\ncounter=tpm\n",
  });
  const document = (version: number) =>
    Buffer.from(sign("ab".repeat(64), [trustKey("vendor")], { version }));
  const places = (espPath: string) => ({
    tpmPath: "swtpm",
    espPath,
    anchors,
    openTpm: () => ({ transact: tpm.transact, [Symbol.dispose]() {} }),
  });

  test("both are kept, and the higher one counts", () => {
    const esp = join(scratch, "esp");
    mkdirSync(esp);
    const where = places(esp);
    const nothing = { value: null, source: "none", tpmUsable: true, problems: [] };
    expect(readFloor(where)).toEqual(nothing);
    const raised = { value: 42, source: "tpm", tpmUsable: true, problems: [] };
    expect(raiseFloor(where, { version: 42, document: document(42) })).toEqual(raised);
    // An older file put back: the TPM still knows. No file: the same.
    writeFileSync(join(esp, ESP_FLOOR_FILE), document(40));
    expect(readFloor(where)).toEqual(raised);
    rmSync(join(esp, ESP_FLOOR_FILE));
    expect(readFloor(where)).toEqual(raised);
    // The TPM's counter gone: the file knows, and the counter is made again.
    raiseFloor(where, { version: 43, document: document(43) });
    undefineNvCounter(tpm, FLOOR_INDEX);
    expect(readFloor(where)).toEqual({ ...raised, value: 43, source: "esp" });
    expect(raiseFloor(where, { version: 43, document: document(43) })).toEqual({
      ...raised,
      value: 43,
    });
  });

  test("a foreign index is told, and the file counts", () => {
    defineNvCounter(tpm, FLOOR_INDEX, POLICY);
    const { problems, ...found } = raiseFloor(places(join(scratch, "esp")), {
      version: 44,
      document: document(44),
    });
    expect(found).toEqual({ value: 44, source: "esp", tpmUsable: false });
    expect(problems.join()).toContain("is used by something else");
  });
});

function hex32(value: number): string {
  return value.toString(16).padStart(8, "0");
}
function hex16(value: number): string {
  return value.toString(16).padStart(4, "0");
}
