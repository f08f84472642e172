import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Cmdline,
  formatCmdline,
  makeParameter,
  parseCmdline,
} from "../../shared/format/kargs/cmdline.ts";
import {
  applySourceOptions,
  keepSourceKeys,
  listSources,
  type SourcedOptions,
} from "./kargs-source.ts";

const TUNED = "x-options-source-tuned";

function set(options: string, value: string | undefined, kargs: string | null): [string, string?] {
  const extra: [string, string][] = value === undefined ? [] : [[TUNED, value]];
  const after = applySourceOptions(parseCmdline(options), extra, "tuned", kargs);
  return [formatCmdline(after.options), ...after.extra.map(([, text]) => text)] as [
    string,
    string?,
  ];
}

test.each([
  // [what, options, the source's value (undefined: not known), kargs, options after, value after]
  ["a new source", "root=1 rw", undefined, "a=1 b", "root=1 rw a=1 b", "a=1 b"],
  ["its arguments are replaced", "root=1 a=1 b rw", "a=1 b", "a=2 c", "root=1 rw a=2 c", "a=2 c"],
  ["an argument it keeps moves to the end", "a=1 rw", "a=1", "b a=1", "rw b a=1", "b a=1"],
  ["no arguments, but still known", "rw a=1", "a=1", "", "rw", ""],
  ["forgotten", "rw a=1", "a=1", null, "rw", undefined],
  ["forgotten without arguments", "rw", "", null, "rw", undefined],
  ["never known", "rw a=1", undefined, null, "rw a=1", undefined],
  ["a value with spaces", "rw", undefined, 'd="x y" e', 'rw d="x y" e', 'd="x y" e'],
  ["taken back however it is quoted", 'rw "d=x y" e', 'd="x y"', null, "rw e", undefined],
  ["'-' and '_' in keys are the same", "rw a_b-c=1", "a-b_c=1", null, "rw", undefined],
  ["'-' and '_' in values are not", "rw a=x_y", "a=x-y", null, "rw a=x_y", undefined],
  ["another value of the key is somebody else's", "a=1 a=2", "a=1", "a=3", "a=2 a=3", "a=3"],
  ["a bare word is no value", "a a= a=1", "a", null, "a= a=1", undefined],
  ["what is there already is not said twice", "rw a=1", undefined, "a=1", "rw a=1", "a=1"],
  ["the same value changes nothing", "a=1 rw", "a=1", "a=1", "a=1 rw", "a=1"],
  ["nor white space around it", "a=1 b rw", "a=1 b", "  a=1\t b ", "a=1 b rw", "a=1 b"],
  ["nor what was taken out since", "rw", "panic=5", "panic=5", "rw", "panic=5"],
  ["but a new value counts", "rw", "panic=5", "panic=9", "rw panic=9", "panic=9"],
  ["arguments of init stay last", "rw -- 3", undefined, "a=1", "rw a=1 -- 3", "a=1"],
])("%s", (_, options, value, kargs, optionsAfter, valueAfter) => {
  expect(set(options, value, kargs)).toEqual(
    valueAfter === undefined ? [optionsAfter] : [optionsAfter, valueAfter],
  );
});

test("a key that is there twice becomes one", () => {
  const after = applySourceOptions(
    parseCmdline("a b c"),
    [
      [TUNED, "a"],
      [TUNED, "b"],
    ],
    "tuned",
    "a b",
  );
  expect(formatCmdline(after.options)).toBe("c a b");
  expect(after.extra).toEqual([[TUNED, "a b"]]);
});

test("other sources and other keys stay as they are", () => {
  const extra = [
    ["grub_class", "fedora"],
    ["x-options-source-dracut", "rd.x=1"],
    [TUNED, "a=1"],
  ] as const;
  const after = applySourceOptions(parseCmdline("rw rd.x=1 a=1"), extra, "tuned", "a=2");
  expect(after.extra).toEqual([extra[0], extra[1], [TUNED, "a=2"]]);
  expect(formatCmdline(after.options)).toBe("rw rd.x=1 a=2");
  expect(keepSourceKeys(after.extra)).toEqual([extra[1], [TUNED, "a=2"]]);
  expect([...listSources(after.extra).keys()]).toEqual(["dracut", "tuned"]);
});

test.each([
  ["", "tuned", ""],
  ["a b", "my source", "cannot be the name of a source"],
  ["a", "x/y", "cannot be the name of a source"],
  ["a", "é", "cannot be the name of a source"],
  ['a="b', "tuned", "close its quotes"],
  ['a="\n"', "tuned", "close its quotes and leave out line breaks"],
])("arguments %j of source %j", (kargs, source, message) => {
  const run = () => applySourceOptions([], [], source, kargs);
  if (message === "") expect(run).not.toThrow();
  else expect(run).toThrow(message);
});

describe("for any arguments", () => {
  const key = fc.stringMatching(/^[a-c][-_][a-c]$/);
  const parameter = fc
    .tuple(key, fc.option(fc.constantFrom("", "1", "2", "x y")))
    .map(([name, value]) => makeParameter(name, value));
  const cmdline: fc.Arbitrary<Cmdline> = fc.array(parameter, { maxLength: 6 });
  const kargs = fc.option(cmdline.map(formatCmdline));
  const name = fc.constantFrom("one", "two");
  const start: SourcedOptions = { options: [], extra: [] };
  const step = (at: SourcedOptions, [source, text]: readonly [string, string | null]) =>
    applySourceOptions(at.options, at.extra, source, text);
  const show = ({ options, extra }: SourcedOptions) => ({ line: formatCmdline(options), extra });

  test("setting twice is setting once, and what was set is all there", () => {
    fc.assert(
      fc.property(
        cmdline,
        fc.array(fc.tuple(name, kargs)),
        name,
        kargs,
        (base, past, who, text) => {
          const before = past.reduce(step, { ...start, options: base });
          const once = step(before, [who, text]);
          expect(show(step(once, [who, text]))).toEqual(show(once));
          const wanted = text === null ? undefined : parseCmdline(text);
          expect(
            listSources(once.extra)
              .get(who)
              ?.map((each) => each.text),
          ).toEqual(wanted?.map((each) => each.text));
        },
      ),
    );
  });

  test("what a source has of its own goes without a trace", () => {
    const own = cmdline.map((list) =>
      list.map((each) => makeParameter(`own.${each.key}`, each.value)),
    );
    fc.assert(
      fc.property(cmdline, fc.array(own, { minLength: 1 }), (base, values) => {
        const steps = values.map((value) => ["one", formatCmdline(value)] as const);
        const after = [...steps, ["one", null] as const].reduce(step, { ...start, options: base });
        expect(show(after)).toEqual({ line: formatCmdline(base), extra: [] });
      }),
    );
  });
});
