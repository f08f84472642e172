import { describe, expect, test } from "vitest";
import { normalizeTimestamp, shortTimestamp } from "./timestamp.ts";

describe("normalizeTimestamp", () => {
  test.each([
    ["2023-10-14T19:22:15Z", "2023-10-14T19:22:15Z"],
    ["2023-10-14t19:22:15z", "2023-10-14T19:22:15Z"],
    ["2023-10-14T21:52:15+02:30", "2023-10-14T19:22:15Z"],
    ["2023-12-31T23:30:00-01:00", "2024-01-01T00:30:00Z"],
    ["2023-10-14T19:22:15.000Z", "2023-10-14T19:22:15Z"],
    ["2023-10-14T19:22:15.5Z", "2023-10-14T19:22:15.500Z"],
    ["2023-10-14T19:22:15.123456Z", "2023-10-14T19:22:15.123456Z"],
    ["2023-10-14T19:22:15.1234567Z", "2023-10-14T19:22:15.123456700Z"],
    ["2023-10-14T19:22:15.123456789123Z", "2023-10-14T19:22:15.123456789Z"],
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"],
  ])("%s", (text, expected) => {
    expect(normalizeTimestamp(text)).toBe(expected);
  });

  test.each(["", "yesterday", "2023-10-14", "2023-10-14T19:22:15", "2023-13-14T19:22:15Z"])(
    "%j is no time",
    (text) => {
      expect(normalizeTimestamp(text)).toBeNull();
    },
  );
});

test("shortTimestamp drops the fraction", () => {
  expect(shortTimestamp("2024-06-15T10:30:45.123456789Z")).toBe("2024-06-15T10:30:45Z");
  expect(shortTimestamp("2024-06-15T10:30:45Z")).toBe("2024-06-15T10:30:45Z");
});
