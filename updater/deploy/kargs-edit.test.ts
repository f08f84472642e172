import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StateError, UsageError } from "../../shared/error.ts";
import {
  type Cmdline,
  formatCmdline,
  makeParameter,
  parseCmdline,
} from "../../shared/format/kargs/cmdline.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { type KargsEdits, parseEdits } from "./kargs-edit.ts";

const NONE: KargsEdits = {
  delete: [],
  deleteIfPresent: [],
  replace: [],
  append: [],
  appendIfMissing: [],
};
const LINE = 'root=UUID=1 rw console=tty0 console=ttyS0 quiet dyndbg="file a +p" foo-bar=1';

const editKargs = (line: Cmdline, edits: KargsEdits) => parseEdits(edits)(line);

function edit(edits: Partial<KargsEdits>, line = LINE): string {
  return formatCmdline(editKargs(parseCmdline(line), { ...NONE, ...edits }));
}

test.each<[string, Partial<KargsEdits>, string, string]>([
  ["append", { append: ["x=1"] }, "rw", "rw x=1"],
  ["append several, in order", { append: ["c", 'b="1 2" a'] }, "rw", 'rw c b="1 2" a'],
  ["append what is there", { append: ["rw"] }, "rw", "rw rw"],
  ["append an empty value", { append: ["x="] }, "rw", "rw x="],
  ["append if missing", { appendIfMissing: ["rw", "x", "x"] }, "rw", "rw x"],
  ["append another value if missing", { appendIfMissing: ["c=2"] }, "c=1", "c=1 c=2"],
  ["append before init's", { append: ["x"] }, "rw -- 3", "rw x -- 3"],
  ["delete by key", { delete: ["root"] }, "root=UUID=1 rw", "rw"],
  ["delete by key and value", { delete: ["c=2"] }, "c=1 c=2 rw", "c=1 rw"],
  ["delete a bare word", { delete: ["quiet"] }, "rw quiet", "rw"],
  ["delete a quoted value", { delete: ['d="x y"'] }, 'rw d="x y"', "rw"],
  ["delete, quoted otherwise", { delete: ['"d=x y"'] }, 'rw d="x y"', "rw"],
  ["delete '-' for '_'", { delete: ["a_b=1"] }, "rw a-b=1", "rw"],
  ["delete one of two equal ones", { delete: ["a"] }, "a rw a", "a rw"],
  ["delete both of two equal ones", { delete: ["a", "a"] }, "a rw a", "rw"],
  ["delete if present", { deleteIfPresent: ["no", "a=9", "b"] }, "a=1 b=2", "a=1"],
  ["replace the only value", { replace: ["a=2"] }, "x a=1 y", "x a=2 y"],
  ["replace one of several", { replace: ["c=2=3"] }, "c=1 c=2 c=4", "c=1 c=3 c=4"],
  ["replace a bare word", { replace: ["a=2"] }, "x a y", "x a=2 y"],
  ["replace with an empty value", { replace: ["a=1="] }, "a=1", "a="],
  ["replace an empty value", { replace: ["a==2"] }, "a=", "a=2"],
  ["replace with a quoted value", { replace: ['a="x y"'] }, "a=1", 'a="x y"'],
  ["replace, all quoted", { replace: ['"a=x y"'] }, "a=1", 'a="x y"'],
  ["replace a quoted value by another", { replace: ['a="x y"="z w"'] }, 'a="x y"', 'a="z w"'],
  ["replace a value with =", { replace: ["root=UUID=1=UUID=2"] }, "root=UUID=1", "root=UUID=2"],
  ["replace by a value with =", { replace: ['root="UUID=2"'] }, "root=LABEL=x", "root=UUID=2"],
  ["replace '-' for '_'", { replace: ["a_b=2"] }, "a-b=1", "a_b=2"],
  ["replace one after the other", { replace: ["a=2", "a=2=3"] }, "a=1", "a=3"],
  [
    "delete, then replace, then append, whatever the order given",
    { append: ["a=9"], replace: ["a=3"], delete: ["a=1"] },
    "a=1 a=2",
    "a=3 a=9",
  ],
])("%s", (_, edits, before, after) => expect(edit(edits, before)).toBe(after));

describe("is refused, with what is there", () => {
  test.each<[string, Partial<KargsEdits>, string]>([
    [
      "a missing key",
      { delete: ["nope"] },
      'no argument "nope"; nothing with the key "nope" is there',
    ],
    ["a missing value", { delete: ["root=x"] }, 'no argument "root=x"; "root=UUID=1" is there'],
    [
      "one of several",
      { delete: ["console"] },
      'there as "console=tty0", "console=ttyS0"; say which',
    ],
    ["one of several, too", { deleteIfPresent: ["console"] }, "say which one is meant"],
    ["replacing a missing key", { replace: ["nope=1"] }, 'no argument "nope=1"; nothing'],
    ["replacing one of several", { replace: ["console=x"] }, "say which one is meant"],
    [
      "replacing a missing value",
      { replace: ["root=LABEL=2"] },
      `no argument "root=LABEL"; "root=UUID=1" is there; if "LABEL=2" is the new value, put it in quotes: --replace 'root="LABEL=2"'`,
    ],
  ])("%s", (_, edits, message) => {
    expect(() => edit(edits)).toThrow(StateError);
    expect(() => edit(edits)).toThrow(message);
  });
  test("two readings", () => {
    expect(() => edit({ replace: ["a=1=2=3"] }, "a=1 a=1=2")).toThrow("more than one way");
    expect(edit({ replace: ['a="1=2"=3'] }, "a=1 a=1=2")).toBe("a=1 a=3");
  });
});

describe("is no argument", () => {
  const composefs = `composefs=${"0".repeat(128)}`;
  test.each<[keyof KargsEdits, string, string]>([
    ["append", 'a="b', "close its quotes"],
    ["append", "a\nb", "leave out control characters"],
    ["append", "a\u0000", "leave out control characters"],
    ["append", "a\tb", "tabs"],
    ["append", "a\u00a0b", "white space"],
    ["append", "dir=à", "white space"],
    ["append", "", 'needs an argument, it got ""'],
    ["append", "  ", 'needs an argument, it got "  "'],
    ["append", composefs, "which deployment starts"],
    ["append", `quiet "${composefs}"`, "which deployment starts"],
    ["appendIfMissing", "composefs.digest=v1-sha512-12:00", "which deployment starts"],
    ["delete", "composefs", "which deployment starts"],
    ["deleteIfPresent", "ostree", "which deployment starts"],
    ["replace", composefs, "which deployment starts"],
    ["replace", "quiet", "use KEY=NEW or KEY=OLD=NEW"],
    ["replace", "=1", "use KEY=NEW or KEY=OLD=NEW"],
  ])("%s %j", (option, text, message) => {
    expect(() => edit({ [option]: [text] })).toThrow(UsageError);
    expect(() => edit({ [option]: [text] })).toThrow(message);
  });
});

const parameter = fc
  .tuple(fc.stringMatching(/^[a-c][-_.]?[a-c]?$/), fc.option(fc.stringMatching(/^[12= x]{0,4}$/)))
  .map(([key, value]) => makeParameter(key, value));
const cmdline: fc.Arbitrary<Cmdline> = fc.array(parameter, { maxLength: 6 });

test("what was appended can be deleted by its text", () => {
  fc.assert(
    fc.property(cmdline, parameter, (line, { text }) => {
      const grown = editKargs(line, { ...NONE, append: [text] });
      const [, key] = /^([^=]*)/.exec(text)!;
      const isAlone =
        text !== key || line.every((other) => other.value === null || other.key !== key);
      fc.pre(
        isAlone && !line.some((other) => other.key.replace("-", "_") === key!.replace("-", "_")),
      );
      expect(formatCmdline(editKargs(grown, { ...NONE, delete: [text] }))).toBe(
        formatCmdline(line),
      );
    }),
  );
});

test("adding if missing and deleting if present are the same when done twice", () => {
  fc.assert(
    fc.property(cmdline, parameter, (line, { text, value }) => {
      const add = { ...NONE, appendIfMissing: [text] };
      const once = editKargs(line, add);
      expect(editKargs(once, add)).toEqual(once);
      fc.pre(value !== null);
      let gone: Cmdline = line;
      for (const _ of line) gone = editKargs(gone, { ...NONE, deleteIfPresent: [text] });
      expect(editKargs(gone, { ...NONE, deleteIfPresent: [text] })).toEqual(gone);
    }),
  );
});

test("whatever is accepted: the deployment's argument stays, and the line is read back as it was made", () => {
  const piece = fc.constantFrom(
    "a",
    "b_c",
    "b-c",
    "=",
    '"',
    " ",
    "1",
    "composefs",
    "--",
    "ü",
    "\t",
  );
  const text = fc.array(piece, { maxLength: 7 }).map((pieces) => pieces.join(""));
  const edits = fc.record({
    delete: fc.array(text, { maxLength: 1 }),
    deleteIfPresent: fc.array(text, { maxLength: 1 }),
    replace: fc.array(text, { maxLength: 1 }),
    append: fc.array(text, { maxLength: 2 }),
    appendIfMissing: fc.array(text, { maxLength: 2 }),
  });
  const id = "0".repeat(128);
  const line = parseCmdline(`a=1 b-c="1 1" composefs=?${id} b_c=1 -- 3`);
  let accepted = 0;
  fc.assert(
    fc.property(edits, (given) => {
      let edited: Cmdline;
      try {
        edited = editKargs(line, given);
      } catch {
        return;
      }
      accepted += 1;
      expect(parseComposefsKargs(formatCmdline(edited))).toMatchObject([{ digest: id }]);
      expect(parseCmdline(formatCmdline(edited))).toEqual(edited);
    }),
    { numRuns: 2000 },
  );
  expect(accepted).toBeGreaterThan(40);
});
