import { expect, test } from "vitest";
import { showControls, showOneLine } from "./visible-text.ts";

test("what would steer a terminal or turn text round is shown as its number", () => {
  expect(showControls("a\u001b[2Jb\r\u009b\u007f\u202ec\t\n")).toBe(
    "a\\u001b[2Jb\\u000d\\u009b\\u007f\\u202ec\t\n",
  );
  expect(showOneLine("one\nFinding: two\t")).toBe("one\\u000aFinding: two\\u0009");
});

test("text in any language stays as it is, and JSON means the same", () => {
  const words = "Grüße, 日本語, שלום 🙂";
  expect(showOneLine(words)).toBe(words);
  const value = { name: "\u007f\u009b\u202e\u0001" };
  expect(JSON.parse(showControls(JSON.stringify(value)))).toEqual(value);
});
