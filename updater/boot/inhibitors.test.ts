import { describe, expect, test } from "vitest";
import { parseInhibitors } from "./inhibitors.ts";

// As "busctl --json=short call … ListInhibitors" of systemd 257 prints it.
const reply = (...locks: readonly (readonly [string, string, string, string, number, number])[]) =>
  JSON.stringify({ type: "a(ssssuu)", data: [locks] });

describe("parseInhibitors", () => {
  test.each([
    ["nobody", [], []],
    [
      "a lock against shutdown",
      [["shutdown", "apt", "Upgrading", "block", 0, 12]],
      [{ who: "apt", why: "Upgrading", pid: 12 }],
    ],
    [
      "one of several things, and the weak form",
      [["sleep:shutdown:idle", "GNOME", "Burning a disc", "block-weak", 1000, 13]],
      [{ who: "GNOME", why: "Burning a disc", pid: 13 }],
    ],
    ["a delay", [["shutdown", "libvirt", "Suspending guests", "delay", 0, 14]], []],
    ["sleep only", [["sleep", "NetworkManager", "Turning off", "block", 0, 15]], []],
    ["keys", [["handle-power-key:handle-lid-switch", "GNOME", "x", "block", 0, 16]], []],
  ] as const)("%s", (_, locks, expected) => {
    expect(parseInhibitors(reply(...locks))).toEqual(expected);
  });

  test.each(["", "{}", '{"type":"as","data":[["x"]]}', '{"type":"a(ssssuu)","data":[[["x"]]]}'])(
    "an answer of another kind is an error: %s",
    (text) => {
      expect(() => parseInhibitors(text)).toThrow();
    },
  );
});
