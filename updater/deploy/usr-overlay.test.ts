import { expect, test } from "vitest";
import { parseMountTable } from "../boot/mount-table.ts";
import { planUsrOverlay } from "./usr-overlay.ts";

const line = (path: string, source: string) => `1 1 0:20 / ${path} ro - overlay ${source} ro\n`;
const root = line("/", `composefs:${"a".repeat(128)}`);

test.each([
  ["a plain root", root, { kind: "mount", readOnly: false }],
  ["an overlay is there", root + line("/usr", "transient"), { kind: "nothing", reason: "mounted" }],
  // Whoever mounted it.
  ["an extension image", root + line("/usr", "sysext"), { kind: "nothing", reason: "mounted" }],
  ["mounts below /usr", root + line("/usr/local", "x"), { kind: "mount", readOnly: false }],
  [
    "the root is in memory",
    line("/", `transient:composefs=${"a".repeat(128)}`),
    { kind: "nothing", reason: "transient-root" },
  ],
])("%s", (_, table, plan) => {
  expect(planUsrOverlay(parseMountTable(table), "/", false)).toEqual(plan);
});
