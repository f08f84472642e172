// Fuzz target: changes of kernel arguments. Lines of the input: the entry's options, what a source has, what
// it wants, the old and the new image's kargs.d, and what an administrator asks for. Whatever is written is
// read back as it was meant, twice is once, and nothing but an update changes which deployment starts.

import {
  type Cmdline,
  formatCmdline,
  hasParameter,
  parseArguments,
  parseCmdline,
} from "../../../shared/format/kargs/cmdline.ts";
import { parseEdits } from "../../../updater/deploy/kargs-edit.ts";
import { mergeImageKargs, settleMachine } from "../../../updater/deploy/kargs-image.ts";
import {
  applySourceOptions,
  listSources,
  type SourcedOptions,
  setSourceOptions,
} from "../../../updater/deploy/kargs-source.ts";
import { attempt, checkEqual, type FuzzTarget } from "../target.ts";

const ID = "ab".repeat(64);

export const target: FuzzTarget = {
  focus: /^updater\/deploy\/kargs-(edit|image|source)\.ts/,
  maxBytes: 1024,
  errors: ["FormatError", "UsageError", "StateError"],
  words: [
    '"',
    " ",
    "=",
    "-",
    "_",
    "\n",
    "--",
    "\u00a0",
    "a=1",
    "a_b",
    "a-b",
    "composefs=",
    "panic=10",
  ],
  seeds: () => [
    Buffer.from('root=1 rw a-b=1 d="x y" a\na=1 b\na=2 c="p q"\nold a keep\nkeep new a\na=2=3\nx'),
    Buffer.from("rw a=1 -- 3\na=1\n\na\na b\nroot=1=2\nd"),
    Buffer.from("rw\n\npanic=10 panic=10\nquiet\n\nrw\nrw=1"),
  ],
  check(input) {
    const [options = "", had = "", wanted = "", before = "", after = "", given = "", kind = ""] =
      Buffer.from(input).toString("utf8").split("\n");
    const start: SourcedOptions = {
      options: [
        ...parseCmdline(options).filter(({ key }) => !key.startsWith("composefs")),
        ...parseCmdline(`composefs=${ID}`),
      ],
      extra: had === "" ? [] : [["x-options-source-one", had]],
    };
    checkSource(start, wanted);
    const images = [before, after].map((text) => attempt(() => parseArguments(text)));
    if (images.every((image) => "value" in image)) {
      checkImages(start, ...(images.map(({ value }) => value) as [Cmdline, Cmdline]));
    }
    return checkEdit(start, given, kind);
  },
};

function checkSource(start: SourcedOptions, wanted: string): void {
  const set = attempt(() => applySourceOptions(start.options, start.extra, "one", wanted));
  if ("error" in set) return;
  const { options, extra } = set.value;
  const again = applySourceOptions(options, extra, "one", wanted);
  checkEqual(show(again), show(set.value), "Set twice");
  const source = formatCmdline(listSources(extra).get("one") ?? []);
  checkEqual(source, formatCmdline(parseCmdline(wanted)), "What the source has");
  const asked = setSourceOptions(start, "one", wanted);
  const isThere = parseCmdline(wanted).every((each) => hasParameter(asked.options, each));
  checkEqual(isThere, true, "All that was asked for is there");
  checkEqual(applySourceOptions(options, extra, "one", null).extra.length, 0, "Sources left");
}

function checkImages(start: SourcedOptions, before: Cmdline, after: Cmdline): void {
  checkEqual(show(mergeImageKargs(start, after, after)), show(start), "The same image again");
  const merged = mergeImageKargs(start, before, after);
  for (const each of after.filter((one) => !hasParameter(before, one))) {
    checkEqual(hasParameter(merged.options, each), true, `"${each.text}" is there`);
  }
  checkEqual(show(settleMachine(merged)), show(merged), "The machine's arguments are all there");
}

function checkEdit(start: SourcedOptions, given: string, kind: string): boolean {
  const texts = (letter: string) => (kind.includes(letter) ? [given] : []);
  const edit = parseEdits({
    delete: texts("d"),
    deleteIfPresent: texts("e"),
    replace: texts("r"),
    append: texts("a"),
    appendIfMissing: [given],
  });
  const edited = edit(start.options);
  const line = formatCmdline(edited);
  checkEqual(formatCmdline(parseCmdline(line)), line, "Line written and read");
  const images = edited.filter(({ key }) => key === "composefs");
  checkEqual(formatCmdline(images), `composefs=${ID}`, "The deployment's argument");
  return true;
}

function show({ options, extra }: SourcedOptions): string {
  return `${formatCmdline(options)}\n${JSON.stringify(extra)}`;
}
