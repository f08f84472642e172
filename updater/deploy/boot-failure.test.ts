import { expect, test } from "vitest";
import {
  type BootFailure,
  beginRetry,
  dropLostRetries,
  formatFailures,
  parseFailures,
  retryFailure,
} from "./boot-failure.ts";

const failure: BootFailure = {
  id: "ab".repeat(64),
  manifestDigest: `sha256:${"c".repeat(64)}`,
  image: "ostree-unverified-image:docker://quay.io/x/y:z",
  at: "2026-01-01T00:00:00.000Z",
  reason: "unit",
  detail: 'Health check "web" failed (exit status 1)',
  attempts: 3,
  retrying: false,
};

test("what is written is read again, the newest 32", () => {
  const many = Array.from({ length: 40 }, (_, attempts) => ({ ...failure, attempts }));
  expect(parseFailures(formatFailures(many), "f")).toEqual({
    failures: many.slice(8),
    problems: [],
  });
});

test("fields that make no sense are forgotten, entries that cannot be used are named", () => {
  const strange = { id: failure.id, at: failure.at, reason: "aliens", attempts: -1, extra: 1 };
  const text = JSON.stringify({ failures: [strange, { id: "../x" }, 7, failure] });
  expect(parseFailures(text, "f")).toEqual({
    failures: [
      {
        ...failure,
        manifestDigest: null,
        image: null,
        detail: null,
        reason: "unknown",
        attempts: 1,
      },
      failure,
    ],
    problems: ['2 entries of "f" make no sense and are ignored'],
  });
  expect(parseFailures("[]", "f").problems).toEqual(['"f" holds no list of failures']);
  expect(() => parseFailures('{"failures":[', "f")).toThrow();
});

test("only what failed and is not tried already gets another try", () => {
  expect(retryFailure([failure], { id: "other" })).toBeNull();
  expect(retryFailure([{ ...failure, retrying: true }], { id: failure.id })).toBeNull();
  expect(retryFailure([failure], { id: failure.id })).toEqual([
    { ...failure, retrying: true, isRetryStaged: true },
  ]);
});

test("another try begins when it is applied, and is none when it is lost before that", () => {
  const other = { ...failure, id: "cd".repeat(64), manifestDigest: null };
  const staged = retryFailure([failure, other], { id: failure.id })!;
  const byManifest = { id: "ef".repeat(64), manifestDigest: failure.manifestDigest! };
  expect(dropLostRetries(staged, { id: failure.id })).toEqual(staged);
  expect(dropLostRetries(staged, byManifest)).toEqual(staged);
  for (const lost of [null, { id: other.id }])
    expect(dropLostRetries(staged, lost)).toEqual([failure, other]);
  const begun = beginRetry(staged, { id: failure.id });
  expect(begun).toEqual([{ ...failure, retrying: true }, other]);
  expect(dropLostRetries(begun!, null)).toEqual(begun);
  expect(beginRetry(begun!, { id: failure.id })).toBeNull();
  expect(beginRetry(staged, { id: other.id })).toBeNull();
  expect(parseFailures(formatFailures(staged), "f").failures).toEqual(staged);
});
