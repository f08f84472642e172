import { describe, expect, test } from "vitest";
import { IntegrityError, RegistryError } from "../../shared/error.ts";
import { REGISTRY_LIMITS } from "./limits.ts";
import { isRetryable, openRetryWaits, parseRetryAfter } from "./retry.ts";

describe("Retry-After", () => {
  const now = Date.parse("2026-11-22T12:00:00Z");
  test.each<[string | null, number | null]>([
    ["0", 0],
    ["120", 120_000],
    [" 5 ", 5000],
    ["Sun, 22 Nov 2026 12:00:30 GMT", 30_000],
    ["Sunday, 22-Nov-26 12:00:30 GMT", 30_000],
    ["Sun Nov 22 12:00:30 2026 GMT", 30_000],
    ["Sun, 22 Nov 2026 11:00:00 GMT", 0],
    [null, null],
    ["", null],
    ["-1", null],
    ["1.5", null],
    ["0x10", null],
    ["soon", null],
    ["1e9", null],
    ["9999999999", null],
    ["2026-11-22", null],
  ])("%j", (field, expected) => {
    expect(parseRetryAfter(field, now)).toBe(expected);
  });
});

test.each<[unknown, boolean]>([
  [new RegistryError("unavailable", ""), true],
  [new RegistryError("unavailable", "", { failure: "timeout" }), true],
  [new RegistryError("unavailable", "", { failure: "unreachable" }), true],
  [new RegistryError("unavailable", "", { failure: "certificate" }), false],
  [new RegistryError("unavailable", "", { failure: "tls" }), false],
  [new RegistryError("rate-limited", ""), true],
  [new RegistryError("unauthorized", ""), false],
  [new RegistryError("not-found", ""), false],
  [new RegistryError("protocol", ""), false],
  [new IntegrityError("digest-mismatch", ""), false],
  [new TypeError(), false],
])("%# may pass: %s %s", (error, expected) => {
  expect(isRetryable(error)).toBe(expected);
});

describe("waits", () => {
  const limits = { ...REGISTRY_LIMITS, attempts: 3, backoffMs: 1, maxWaitMs: 50 };
  const busy = (retryAfterMs: number) => new RegistryError("rate-limited", "", { retryAfterMs });

  test("end with the attempts", async () => {
    const waits = openRetryWaits(limits);
    expect(await waits.wait(0, null, undefined)).toBe(true);
    expect(await waits.wait(1, null, undefined)).toBe(true);
    expect(await waits.wait(2, null, undefined)).toBe(false);
  });

  test("are bounded together", async () => {
    const waits = openRetryWaits(limits);
    expect(await waits.wait(0, busy(30), undefined)).toBe(true);
    expect(await waits.wait(0, busy(30), undefined)).toBe(false);
    expect(await waits.wait(0, busy(1_000_000_000), undefined)).toBe(false);
  });

  test("end with the signal", async () => {
    const waits = openRetryWaits({ ...limits, maxWaitMs: 100_000 });
    const reason = new Error("enough");
    await expect(waits.wait(0, busy(60_000), AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const waiting = waits.wait(0, busy(30_000), controller.signal);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});
