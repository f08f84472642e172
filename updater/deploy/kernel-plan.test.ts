// Which kernel and which addons go to the boot partition.

import { describe, expect, test } from "vitest";
import { idOf, makeImage } from "../../test/support/small-world.ts";
import { parseAddonRecord } from "./addon-record.ts";
import {
  chooseAddons,
  type FormerAddons,
  NO_ADDONS,
  nameDifferent,
  planKernel,
  recordAddons,
} from "./kernel-plan.ts";

const [A, B, C] = ["a", "b", "c"].map((name) => `${name}.addon.efi`) as [string, string, string];

function plan(addons: readonly string[], former: FormerAddons) {
  const unified = { sealedCmdline: null, addons, globalAddons: [] };
  const kernel = planKernel(makeImage("b", { unified }), [], former);
  return kernel.kind === "uki" ? kernel.addons.map(({ name, from }) => [name, from]) : [];
}

describe("addons of a deployment", () => {
  test.each<[string, string[], FormerAddons, string[][]]>([
    [
      "all of the image, at first",
      [A, B],
      NO_ADDONS,
      [
        [A, "image"],
        [B, "image"],
      ],
    ],
    [
      "those the machine has come from the new image",
      [A],
      { present: [A], ofImage: [A] },
      [[A, "image"]],
    ],
    [
      "new ones of the image come",
      [A, B],
      { present: [A], ofImage: [A] },
      [
        [A, "image"],
        [B, "image"],
      ],
    ],
    ["dropped by the image", [], { present: [A], ofImage: [A] }, []],
    [
      "removed here, as long as the image has it",
      [A, B],
      { present: [A], ofImage: [A, B] },
      [[A, "image"]],
    ],
    [
      "the machine's own",
      [A],
      { present: [A, C], ofImage: [A] },
      [
        [A, "image"],
        [C, "machine"],
      ],
    ],
    [
      "the machine's own, which the image has now",
      [C],
      { present: [C], ofImage: [] },
      [[C, "image"]],
    ],
    [
      "names are one whatever their case",
      ["C.addon.efi"],
      { present: [C], ofImage: [] },
      [["C.addon.efi", "image"]],
    ],
    [
      "unknown what the former image had: nothing is lost",
      [A],
      { present: [B], ofImage: null },
      [
        [A, "image"],
        [B, "machine"],
      ],
    ],
  ])("%s", (_, ofImage, former, expected) => {
    expect(plan(ofImage, former)).toEqual(expected);
  });
});

test("a unified kernel is never shared, a plain one is", () => {
  const image = makeImage("b");
  const kernels = [{ name: "bootc_composefs-x", bootDigest: image.bootDigest }];
  expect(planKernel(image, kernels, NO_ADDONS)).toEqual({
    kind: "bls",
    directory: "bootc_composefs-x",
    write: false,
  });
  const unified = { sealedCmdline: "", addons: [], globalAddons: [] };
  expect(planKernel({ ...image, unified }, kernels, NO_ADDONS)).toMatchObject({
    kind: "uki",
    name: `bootc_composefs-${idOf("b")}`,
  });
});

test("--uki-addon", () => {
  expect(chooseAddons([A, B], [])).toEqual([A, B]);
  expect(chooseAddons([A, B], ["b"])).toEqual([B]);
  expect(chooseAddons([A, B], ["b.addon.efi", "a"])).toEqual([A, B]);
  expect(() => chooseAddons([A, B], ["c"])).toThrow(
    'no addon "c.addon.efi"; it has a.addon.efi, b.addon.efi',
  );
  expect(() => chooseAddons([], ["c"])).toThrow("it has none");
});

test("the record of addons for every kernel", () => {
  const globalAddons = ["bootc-y.addon.efi", "bootc-x.addon.efi"].map((name) => ({
    name,
    target: nameDifferent(name, "0123456789abcdef"),
    isThere: false,
  }));
  const unified = { sealedCmdline: null, addons: [], globalAddons };
  const text = recordAddons(planKernel(makeImage("b", { unified }), [], NO_ADDONS));
  expect(text).toBe('["bootc-x-01234567.addon.efi","bootc-y-01234567.addon.efi"]\n');
  expect(parseAddonRecord(text!, "x")).toHaveLength(2);
  expect(recordAddons({ kind: "bls", directory: "x", write: true })).toBeNull();
});

test.each(["", "{}", '["../x.addon.efi"]', '["foreign.addon.efi"]', "[1]", '["bootc-x.efi"]'])(
  "record %j is refused",
  (text) => {
    expect(() => parseAddonRecord(text, "x")).toThrow('"x"');
  },
);
