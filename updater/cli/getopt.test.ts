import { describe, expect, test } from "vitest";
import { parseWords } from "./getopt.ts";

const TABLE = {
  basedir: "value",
  filter: "value",
  "from-file": "flag",
  o: "value",
  n: "flag",
} as const;

describe("parseWords", () => {
  test.each([
    [["a", "--filter=x", "b"], [["filter", "x"]], ["a", "b"]],
    [
      ["--filter", "x", "--filter="],
      [
        ["filter", "x"],
        ["filter", ""],
      ],
      [],
    ],
    [
      ["--from", "--base=a=b"],
      [
        ["from-file", ""],
        ["basedir", "a=b"],
      ],
      [],
    ],
    [["-", "--", "--filter", "-n"], [], ["-", "--filter", "-n"]],
    [
      ["-no", "x", "-oy", "z"],
      [
        ["n", ""],
        ["o", "x"],
        ["o", "y"],
      ],
      ["z"],
    ],
    [["--filter", "--"], [["filter", "--"]], []],
  ])("reads %j", (argv, options, operands) => {
    expect(parseWords(argv, TABLE)).toEqual({ options, operands });
  });

  test.each([
    [["--f"], 'Ambiguous option "--f"'],
    [["--nonsense"], 'Unknown option "--nonsense"'],
    [["--n"], 'Unknown option "--n"'],
    [["--=x"], 'Unknown option "--"'],
    [["--from-file=x"], "takes no value"],
    [["--basedir"], 'Option "--basedir" needs a value'],
    [["-nx"], 'Unknown option "-x"'],
    [["-o"], 'Option "-o" needs a value'],
    [["--toString"], "Unknown option"],
  ])("refuses %j", (argv, message) => {
    expect(() => parseWords(argv, TABLE)).toThrow(message);
  });
});
