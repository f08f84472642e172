import fc from "fast-check";
import { expect, test } from "vitest";
import { makeEntryId } from "../bls/entry-name.ts";
import { compareMenuNames, isShownBefore, orderNames } from "./name-order.ts";

test.each([
  // bootc's own names, where they do their work.
  ["bootc_fedora-44-1", "bootc_fedora-43-0", true],
  ["bootc_fedora-44-1", "bootc_fedora-44-0", true],
  ["bootc_fedora-10-1", "bootc_fedora-9-0", false],
  ["bootc_fedora-43-1", "bootc_fedora-44-0", false],
  ["bootc_debian-13-1", "bootc_fedora-12-0", false],
  // Only RPM knows the tilde: as text "~" comes after "-".
  ["bootc_fedora-44-1", "bootc_fedora-44~rc1-0", false],
  // What this program makes of the others.
  ["bootc_fedora-43-1", "bootc-98.44-0", true],
  ["bootc_bootc-1-1", "bootc-98.99999-0", true],
  ["bootc-98.1-0", "bootc-97.5-0", true],
])("%s is shown before %s by everyone: %s", (a, b, expected) => {
  expect(isShownBefore(a, b)).toBe(expected);
  if (expected) expect(isShownBefore(b, a)).toBe(false);
});

test.each([
  [
    ["bootc_fedora-44-1", "bootc_fedora-43-0"],
    ["bootc_fedora-44-1", "bootc_fedora-43-0"],
  ],
  [
    ["bootc_fedora-43-1", "bootc_fedora-44-0"],
    ["bootc_fedora-43-1", "bootc-98.44-0"],
  ],
  [
    ["bootc_bootc-1-1", "bootc_bootc-3-0", "bootc_bootc-2-0"],
    ["bootc_bootc-1-1", "bootc-98.3-0", "bootc-97.2-0"],
  ],
  [
    ["bootc_x-9-1", "bootc_x-8-0", "bootc_x-8.2-0"],
    ["bootc_x-9-1", "bootc_x-8-0", "bootc-98.8.2-0"],
  ],
  [
    ["bootc-98.8-0", "bootc-98.9-0"],
    ["bootc-98.8-0", "bootc-97.9-0"],
  ],
])("the menu %j is written as %j", (ids, names) => {
  expect(orderNames(ids)).toEqual(names);
});

const osId = fc.constantFrom("fedora", "debian", "opensuse-leap", "bootc", "rhel", "arch");
const version = fc.oneof(
  fc.stringMatching(/^[0-9]{1,3}(\.[0-9]{1,4}){0,2}$/),
  fc.stringMatching(/^[a-z0-9.~^+_-]{1,12}$/),
);

test("any menu comes out in its order, with all names different", () => {
  fc.assert(
    fc.property(osId, fc.array(version, { minLength: 1, maxLength: 8 }), (os, versions) => {
      const ids = versions.map((each, i) => makeEntryId(os, each, i === 0 ? 1 : 0));
      const names = orderNames(ids);
      expect(names[0]).toBe(ids[0]);
      for (let i = 1; i < names.length; i += 1) {
        expect([names[i - 1], names[i], isShownBefore(names[i - 1]!, names[i]!)]).toEqual([
          names[i - 1],
          names[i],
          true,
        ]);
      }
      expect([...names].reverse().sort(compareMenuNames)).toEqual(names);
    }),
    { numRuns: 500 },
  );
});

test("names of others: RPM's rules", () => {
  const menu = ["m-6.12.1-2.fc44", "m-6.12.1-1.fc44", "m-6.9.9-9", "m-0-rescue", "bootc_a-1-1"];
  expect([...menu].reverse().sort(compareMenuNames)).toEqual(menu);
});
