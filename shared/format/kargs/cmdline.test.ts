import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addParameter,
  findParameters,
  formatCmdline,
  makeParameter,
  parameterValues,
  parseArguments,
  parseCmdline,
  removeParameter,
  replaceParameter,
  subtractParameters,
} from "./cmdline.ts";

test.each([
  ["", []],
  [
    "  a   b\t\n",
    [
      ["a", null],
      ["b", null],
    ],
  ],
  [
    "root=UUID=1 rw",
    [
      ["root", "UUID=1"],
      ["rw", null],
    ],
  ],
  [
    'dyndbg="file a +p; file b" x',
    [
      ["dyndbg", "file a +p; file b"],
      ["x", null],
    ],
  ],
  [
    '"a=b c" d',
    [
      ["a", "b c"],
      ["d", null],
    ],
  ],
  ['a="unclosed to the end', [["a", "unclosed to the end"]]],
  [
    "empty= x",
    [
      ["empty", ""],
      ["x", null],
    ],
  ],
] as const)("parses %j", (text, expected) => {
  expect(parseCmdline(text).map((p) => [p.key, p.value])).toEqual(expected);
});

test("what is not edited keeps its text", () => {
  expect(formatCmdline(parseCmdline(' "a=b c"  d="x y" '))).toBe('"a=b c" d="x y"');
});

describe("edits", () => {
  const line = parseCmdline("root=1 rw console=tty0 console=ttyS0 quiet");
  const show = (edited: ReturnType<typeof parseCmdline>) => formatCmdline(edited);
  test("add keeps an equal one", () => {
    expect(show(addParameter(line, makeParameter("rw", null)))).toBe(show(line));
    expect(show(addParameter(line, makeParameter("console", "x")))).toBe(`${show(line)} console=x`);
  });
  test("remove is exact", () => {
    expect(show(removeParameter(line, makeParameter("console", "tty0")))).toBe(
      "root=1 rw console=ttyS0 quiet",
    );
    expect(show(removeParameter(line, makeParameter("root", null)))).toBe(show(line));
  });
  test("replace leaves one, in the first one's place", () => {
    expect(show(replaceParameter(line, makeParameter("console", "hvc0")))).toBe(
      "root=1 rw console=hvc0 quiet",
    );
    expect(show(replaceParameter(line, makeParameter("new", "a b")))).toBe(
      `${show(line)} new="a b"`,
    );
  });
  test("'-' and '_' in keys are equal", () => {
    const dashed = parseCmdline("a-b=1");
    expect(parameterValues(dashed, "a_b")).toEqual(["1"]);
    expect(removeParameter(dashed, makeParameter("a_b", "1"))).toEqual([]);
  });
});

test.each([
  ["a b", null],
  ["a=b", null],
  ["", null],
  ["a", 'x"y'],
  ["a", "x\ny"],
])("refuses to write %j=%j", (key, value) => {
  expect(() => makeParameter(key, value)).toThrow("cannot be written");
});

test.each(["a b", 'a="b c" d', '"a=b c"', "ä=1"])(
  "arguments to be joined with others: %j",
  (text) => {
    expect(formatCmdline(parseArguments(text))).toBe(text);
  },
);

test.each(['a="b', 'x a="', 'a="b\nc"', 'a="\u007f"'])("refuses to join %j with others", (text) => {
  expect(() => parseArguments(text)).toThrow("close its quotes and leave out line breaks");
});

test.each([
  ["a b c", "b", "a c"],
  ["a a a", "a", "a a"],
  ["a=1 a=2 a=1", "a=1 a=1", "a=2"],
  ["a-b=x", "a_b=x", ""],
  ["a=1", "a", "a=1"],
  ['"a=b c" d', 'a="b c"', "d"],
])("%j less %j", (after, before, expected) => {
  const left = subtractParameters(parseCmdline(after), parseCmdline(before));
  expect(formatCmdline(left)).toBe(expected);
});

test("what is appended stays before init's arguments", () => {
  const line = parseCmdline("root=1 -- 3 a");
  expect(formatCmdline(addParameter(line, makeParameter("b", null)))).toBe("root=1 b -- 3 a");
  expect(formatCmdline(replaceParameter(line, makeParameter("b", "1")))).toBe("root=1 b=1 -- 3 a");
  expect(findParameters(line, "3").map(({ text }) => text)).toEqual(["3"]);
});

test("a made parameter is parsed back as it was made", () => {
  const key = fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/);
  const value = fc.option(fc.stringMatching(/^[ !#-~]{0,20}$/));
  fc.assert(
    fc.property(fc.array(fc.tuple(key, value)), (pairs) => {
      const text = formatCmdline(pairs.map(([k, v]) => makeParameter(k, v)));
      expect(parseCmdline(text).map((p) => [p.key, p.value])).toEqual(pairs);
    }),
  );
});
