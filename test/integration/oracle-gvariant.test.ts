// Our GVariant beside GLib's (by way of Python in the ostree root): what we write is normal to GLib and prints
// the same, and of damaged bytes we accept exactly those that GLib calls normal. `npm run test:all`
// takes twenty times as many values; a failure shows type and bytes.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FormatError } from "../../shared/error.ts";
import { decodeGVariant } from "../../shared/format/gvariant/decode.ts";
import { encodeGVariant } from "../../shared/format/gvariant/encode.ts";
import { printGVariant } from "../../shared/format/gvariant/print.ts";
import { createRandom, type Random } from "../support/random-dump.ts";
import { makeRandomType, makeRandomValue } from "../support/random-gvariant.ts";
import { runOstreeTool } from "../vm/ostree-root.ts";

const VALUES = process.env["TEST_ALL"] === undefined ? 2_000 : 40_000;

const scratch = mkdtempSync(join(tmpdir(), "oracle-gvariant-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SCRIPT = `
import json, sys
from gi.repository import GLib
def rebuild(value):
    type = value.get_type_string()
    if type[0] not in "vam({": return value
    children = [rebuild(value.get_child_value(i)) for i in range(value.n_children())]
    if type == "v": return GLib.Variant.new_variant(children[0])
    if type[0] == "(": return GLib.Variant.new_tuple(*children)
    if type[0] == "{": return GLib.Variant.new_dict_entry(*children)
    element = GLib.VariantType.new(type[1:])
    if type[0] == "a": return GLib.Variant.new_array(element, children)
    return GLib.Variant.new_maybe(element, children[0] if children else None)
out = []
for type, hex in json.load(open(sys.argv[1])):
    try:
        if not GLib.VariantType.string_is_valid(type):
            raise ValueError()
        raw = bytes.fromhex(hex)
        gtype = GLib.VariantType.new(type)
        value = GLib.Variant.new_from_bytes(gtype, GLib.Bytes.new(raw), False)
        text = value.print_(True) if value.is_normal_form() else None
        if text is not None:
            # GLib takes no bytes at all for a tuple, too, though it never writes that.
            again = rebuild(value).get_data_as_bytes().get_data()
            if (again or b"") != raw: text = None
        out.append(text)
    except (ValueError, TypeError):
        out.append(None)
json.dump(out, open(sys.argv[2], "w"))
`;

type Question = readonly [type: string, hex: string];

/** What GLib prints, or null for what is not normal. */
async function askGlib(questions: readonly Question[]): Promise<(string | null)[]> {
  const [script, input, output] = ["ask.py", "in.json", "out.json"].map((name) =>
    join(scratch, name),
  ) as [string, string, string];
  writeFileSync(script, SCRIPT);
  writeFileSync(input, JSON.stringify(questions));
  await runOstreeTool(["env", "LC_ALL=C.UTF-8", "python3", script, input, output]);
  return JSON.parse(readFileSync(output, "utf8"));
}

function ask([type, hex]: Question): string | null {
  const bytes = Buffer.from(hex, "hex");
  try {
    const value = decodeGVariant(type, bytes);
    const text = printGVariant(type, value);
    // Normal form is the one way to write a value; only a NaN has many, and JavaScript one.
    if (text.includes("nan")) return text;
    expect(Buffer.from(encodeGVariant(type, value)).toString("hex")).toBe(hex);
    return text;
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/** Questions that are not answered alike. */
async function findDifferences(questions: readonly Question[]) {
  const theirs = await askGlib(questions);
  return questions
    .map((question, i) => ({ question, ours: ask(question), theirs: theirs[i] }))
    .filter(({ ours, theirs }) => roundDoubles(ours) !== roundDoubles(theirs));
}

/** GLib prints 17 digits, we as many as it takes. */
function roundDoubles(text: string | null | undefined): string | null {
  if (text === null || text === undefined) return null;
  return text
    .replaceAll("-nan", "nan")
    .replaceAll(/\d[\d.]*e?[+-]?\d*/g, (n) => (/[.e]/.test(n) ? `${Number(n)}` : n));
}

function makeQuestion(seed: number): Question {
  const random = createRandom(seed);
  const type = makeRandomType(random);
  const bytes = encodeGVariant(type, makeRandomValue(random, type));
  return [type, Buffer.from(bytes).toString("hex")];
}

function damage(random: Random, hex: string): string {
  const bytes = [...Buffer.from(hex, "hex")];
  for (let i = 0; i <= random.below(3); i++) {
    const at = random.below(bytes.length + 1);
    const byte = random.pick([0, 1, 2, 0x28, 0x29, 0x61, 0x79, 0xff, random.below(256)]);
    const kind = random.below(4);
    if (kind === 0) bytes.splice(at, 1);
    else if (kind === 1) bytes.splice(at, 0, byte);
    else if (bytes.length > 0) bytes[Math.min(at, bytes.length - 1)] = byte;
  }
  return Buffer.from(bytes).toString("hex");
}

test("what we write is normal, and prints the same", async () => {
  const questions = Array.from({ length: VALUES }, (_, seed) => makeQuestion(seed));
  expect(questions.filter((question) => ask(question) === null)).toEqual([]);
  expect(await findDifferences(questions)).toEqual([]);
});

test("of damaged bytes we accept what is normal to GLib", async () => {
  const questions = Array.from({ length: 4 * VALUES }, (_, i): Question => {
    const [type, hex] = makeQuestion(i >> 2);
    return [type, damage(createRandom(1_000_000 + i), hex)];
  });
  expect(await findDifferences(questions)).toEqual([]);
  const accepted = questions.filter((question) => ask(question) !== null).length;
  expect(accepted).toBeGreaterThan(VALUES / 10);
  expect(accepted).toBeLessThan(3.9 * VALUES);
});

test("types nest as deep as in GLib", async () => {
  const nest = (count: number): Question[] => [
    [`${"a".repeat(count)}y`, ""],
    [`${"(".repeat(count)}y${")".repeat(count)}`, "00"],
    [`${"m".repeat(count)}s`, ""],
    ["v", `00${Buffer.from(`${"a".repeat(count)}y`).toString("hex")}`],
    ["av", Buffer.from(encodeGVariant("av", [nestVariants(count)])).toString("hex")],
  ];
  // Not 128: GLib takes that of arrays, but not of tuples, and we of neither.
  const depths = [1, 60, 63, 64, 65, 120, 125, 126, 127, 129, 130, 131, 150];
  expect(await findDifferences(depths.flatMap(nest))).toEqual([]);
});

function nestVariants(count: number): { type: string; value: never } {
  let value: unknown = { type: "y", value: 1 };
  for (let i = 1; i < count; i++) value = { type: "v", value };
  return value as { type: string; value: never };
}
