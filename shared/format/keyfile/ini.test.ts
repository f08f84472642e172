import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { formatIni, parseIni } from "./ini.ts";

const origin = `[origin]
container-image-reference=ostree-unverified-image:docker://quay.io/x/y:tag
[boot]
boot_type=bls
digest=aa
[image]
manifest_digest=sha256:bb
`;

test("an origin file survives a round trip byte for byte", () => {
  const ini = parseIni(origin, "x.origin");
  expect(ini.get("boot")?.get("boot_type")).toBe("bls");
  expect(formatIni(ini)).toBe(origin);
});

test("comments, spaces, repeated groups and keys", () => {
  const ini = parseIni("# c\n; d\n[a]\n x = 1 = 2 \n[b]\ny=\n[a]\nx=3\nz=4\n", "f");
  expect([...ini.get("a")!]).toEqual([
    ["x", "3"],
    ["z", "4"],
  ]);
  expect(ini.get("b")?.get("y")).toBe("");
});

test.each([
  ["x=1", "before the first group"],
  ["[a]\nnonsense", 'line 2: "nonsense"'],
  ["[a]\n=1", "neither a group nor a key"],
  ["[a", "neither a group nor a key"],
  // Found by fuzzing: accepted, they could not be written back.
  ["[a]\n[b=c", "neither a group nor a key"],
  ["[a]\nb=\0", "contains a NUL byte"],
])("refuses %j", (text, message) => {
  expect(() => parseIni(text, "f")).toThrow(FormatError);
  expect(() => parseIni(text, "f")).toThrow(message);
});

test.each([
  [new Map([["a]", new Map()]])],
  [new Map([["a", new Map([["k=", "v"]])]])],
  [new Map([["a", new Map([["k", "v\n[evil]"]])]])],
])("refuses to write what could not be read back", (ini) => {
  expect(() => formatIni(ini)).toThrow("cannot be written");
});

test("parse(format(ini)) is the ini", () => {
  const key = fc.stringMatching(/^[a-z_-]{1,10}$/);
  const value = fc.stringMatching(/^([!-~]([ -~]{0,20}[!-~])?)?$/);
  const group = fc.array(fc.tuple(key, value)).map((pairs) => new Map(pairs));
  fc.assert(
    fc.property(fc.array(fc.tuple(key, group)), (groups) => {
      const ini = new Map(groups);
      expect(parseIni(formatIni(ini), "f")).toEqual(ini);
    }),
  );
});
