import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Cmdline,
  formatCmdline,
  hasParameter,
  makeParameter,
  parseCmdline,
} from "../../shared/format/kargs/cmdline.ts";
import { MACHINE_SOURCE, mergeImageKargs, settleMachine } from "./kargs-image.ts";
import { applySourceOptions, listSources, type SourcedOptions } from "./kargs-source.ts";

const KEY = `x-options-source-${MACHINE_SOURCE}`;

test.each([
  [
    "dropped, kept and added ones",
    "root=1 old keep local",
    "old keep",
    "keep new",
    "root=1 keep local new",
  ],
  ["a value with spaces", "root=1", "", 'a="b c" d', 'root=1 a="b c" d'],
  ["however it is quoted", 'root=1 "a=b c"', 'a="b c"', "", "root=1"],
  ["another value", "root=1 a=1", "a=1", "a=2", "root=1 a=2"],
  ["'-' and '_'", "root=1 a_b=1 x", "a-b=1", "a_b=1", "root=1 a_b=1 x"],
  ["taken out by hand before it was dropped", "root=1", "gone", "", "root=1"],
  ["taken out by hand, and still in the image", "root=1", "kept", "kept", "root=1"],
  ["an image without kargs.d", "root=1 a b local", "a b", "", "root=1 local"],
  ["appended a second time by hand: the machine's stays", "root=1 a a", "a", "", "root=1 a"],
  ["said twice by the image", "root=1", "", "a a", "root=1 a"],
  ["a change of order alone", "root=1 a b", "a b", "b a", "root=1 a b"],
])("%s", (_, current, before, after, expected) => {
  const merged = mergeImageKargs(
    { options: parseCmdline(current), extra: [] },
    parseCmdline(before),
    parseCmdline(after),
  );
  expect(formatCmdline(merged.options)).toBe(expected);
  expect(merged.extra).toEqual([]);
});

test("an argument of machine and image is there once, and outlives the image's", () => {
  const quiet = parseCmdline("quiet");
  const local: SourcedOptions = { options: parseCmdline("root=1 quiet"), extra: [] };
  const both = mergeImageKargs(local, [], quiet);
  expect(both).toEqual({ options: local.options, extra: [[KEY, "quiet"]] });
  expect(mergeImageKargs(both, quiet, quiet)).toEqual(both);
  expect(mergeImageKargs(both, quiet, [])).toEqual(local);
});

test("what is taken out by hand is not the machine's any more", () => {
  const quiet = parseCmdline("quiet");
  const both = mergeImageKargs({ options: parseCmdline("root=1 quiet"), extra: [] }, [], quiet);
  const without = settleMachine({ ...both, options: parseCmdline("root=1") });
  expect(without).toEqual({ options: parseCmdline("root=1"), extra: [] });
  expect(mergeImageKargs(without, quiet, []).options).toEqual(without.options);
});

test("what a program has set stays when the image drops it", () => {
  const set = applySourceOptions(parseCmdline("root=1 a=1"), [], "tuned", "a=1 b");
  const merged = mergeImageKargs(set, parseCmdline("a=1"), []);
  expect(merged).toEqual(set);
  const gone = applySourceOptions(merged.options, merged.extra, "tuned", null);
  expect(formatCmdline(gone.options)).toBe("root=1");
});

test("through any line of images the machine's own arguments stay, and the last image's are there", () => {
  const word = fc.constantFrom("a", "b", "c", "d", "e").map((key) => makeParameter(key, null));
  const line: fc.Arbitrary<Cmdline> = fc.uniqueArray(word, { selector: ({ key }) => key });
  fc.assert(
    fc.property(line, fc.array(line), (machine, images) => {
      let at: SourcedOptions = { options: machine, extra: [] };
      let before: Cmdline = [];
      for (const after of images) {
        at = mergeImageKargs(at, before, after);
        before = after;
      }
      const wanted = [...machine, ...before].map(({ key }) => key);
      expect(at.options.map(({ key }) => key).sort()).toEqual([...new Set(wanted)].sort());
      expect(
        (listSources(at.extra).get(MACHINE_SOURCE) ?? []).map(({ key }) => key).sort(),
      ).toEqual(
        machine
          .filter((each) => hasParameter(before, each))
          .map(({ key }) => key)
          .sort(),
      );
    }),
  );
});
