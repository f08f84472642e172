import { expect, test } from "vitest";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { idOf, makeEntry } from "../../test/support/small-world.ts";
import { firstArguments, inheritArguments, readBaseArguments } from "./kargs-base.ts";
import { chooseTrialKargs } from "./trial-kargs.ts";

const OURS = chooseTrialKargs([], []);
const KEY = "x-options-source-bootc";

/** An entry of deployment a; its text's lines. */
function entryOf(options: string, ...extra: readonly string[]) {
  const lines = ["version 1", "linux /k", `options ${options}`, "sort-key bootc-x-0", ...extra];
  return makeEntry("x.conf", `${lines.join("\n")}\n`);
}

function inherit(entry: ReturnType<typeof entryOf>, before = "", after = "") {
  const made = { id: idOf("b"), verityOptional: false, kargs: parseCmdline(after) };
  const { options, extra } = inheritArguments(
    readBaseArguments(entry, parseCmdline(before), true),
    made,
  );
  return [formatCmdline(options).replace(idOf("b"), "B"), ...extra.map((pair) => pair.join(" "))];
}

const A = `composefs=?${idOf("a")}`;
const ours = (...without: readonly string[]) =>
  OURS.split(" ")
    .filter((word) => !without.some((key) => word.startsWith(`${key}=`)))
    .join(" ");

test("an entry that is not ours to the letter gets ours, and keeps keys of sources alone", () => {
  const entry = entryOf(`root=1 ${A} quiet`, "grub_class fedora", "x-options-source-tuned quiet");
  expect(inherit(entry)).toEqual([
    `root=1 composefs=B quiet ${OURS}`,
    "x-options-source-tuned quiet",
    `${KEY} ${OURS}`,
  ]);
});

test("the other way to name an image goes", () => {
  const entry = entryOf(`composefs.digest=v1-sha512-12:${idOf("a")} root=1`, `${KEY} ${OURS}`);
  expect(inherit(entry)[0]).toBe("root=1 composefs=B");
});

test("what an administrator took out of ours stays out, also when the image changes them", () => {
  const entry = entryOf(`root=1 ${A} ${ours("panic")}`, `${KEY} ${OURS}`);
  expect(inherit(entry)).toEqual([`root=1 composefs=B ${ours("panic")}`, `${KEY} ${OURS}`]);
  expect(inherit(entry, "", "rd.shell=1")).toEqual([
    `root=1 composefs=B rd.shell=1 ${ours("panic", "rd.shell")}`,
    `${KEY} ${ours("rd.shell")}`,
  ]);
});

test("a key that image or machine set is theirs", () => {
  const entry = entryOf(`root=1 panic=60 ${A} ${ours("panic")}`, `${KEY} ${ours("panic")}`);
  expect(inherit(entry)).toEqual([
    `root=1 panic=60 composefs=B ${ours("panic")}`,
    `${KEY} ${ours("panic")}`,
  ]);
  const first = firstArguments(parseCmdline("root=1"), {
    id: idOf("b"),
    verityOptional: true,
    kargs: parseCmdline("panic=5"),
  });
  expect(formatCmdline(first.options)).toBe(
    `root=1 composefs=?${idOf("b")} panic=5 ${ours("panic")}`,
  );
});
