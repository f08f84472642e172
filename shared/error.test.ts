// How errors are told.

import { expect, test } from "vitest";
import { describeError, StateError } from "./error.ts";

test("the chain of causes on one line; each is said once", () => {
  const cause = new Error("no space\nleft");
  const error = new StateError("no-space", "Cannot write", {}, { cause });
  expect(describeError(error)).toBe("Cannot write: no space left");
  expect(describeError("text")).toBe("text");
});

test("of an error during an error, the first one is told", () => {
  const later = new SuppressedError(new Error("closing failed"), new Error("writing failed"));
  expect(describeError(later)).toBe("writing failed");
  expect(describeError(new Error("outer", { cause: later }))).toBe("outer: writing failed");
});
