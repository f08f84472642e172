import { expect, test } from "vitest";
import { describePlan, planMounts } from "./mount-plan.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";

const ETC = "state/deploy/1d/etc";
const VAR = "state/deploy/1d/var";

test("planMounts without settings binds /etc and /var", () => {
  expect(planMounts("1d", DEFAULT_SETTINGS, "no")).toEqual({
    id: "1d",
    source: "composefs:1d",
    transientSource: null,
    stateDir: "state/deploy/1d",
    attachments: [
      { kind: "sysroot", at: "sysroot" },
      { kind: "bind", at: "etc", from: ETC },
      { kind: "bind", at: "var", from: VAR },
    ],
    needsWritableState: true,
  });
});

test("planMounts stacks overlays as the settings say", () => {
  const plan = planMounts("1d", { rootTransient: true, etc: "overlay", var: "transient" }, "no");
  expect(plan.transientSource).toBe("transient:composefs=1d");
  expect(plan.attachments.slice(1)).toEqual([
    { kind: "overlay", at: "etc", lower: null, upper: ETC, source: "overlay" },
    { kind: "overlay", at: "var", lower: null, upper: null, source: "transient" },
  ]);
});

test.each([
  [DEFAULT_SETTINGS, "no", "root=ro etc=bind var=bind", true],
  [DEFAULT_SETTINGS, "state", "root=ro etc=bind var=none", true],
  [DEFAULT_SETTINGS, "overlay", "root=transient etc=transient var=none", false],
  [DEFAULT_SETTINGS, "yes", "root=transient etc=transient var=none", false],
  [{ ...DEFAULT_SETTINGS, etc: "none", var: "none" }, "no", "root=ro etc=none var=none", false],
  [{ ...DEFAULT_SETTINGS, etc: "transient" }, "no", "root=ro etc=transient var=bind", true],
  // What the image sets explicitly wins over the command line.
  [
    { rootTransient: false, etc: "bind", var: "bind" },
    "overlay",
    "root=transient etc=bind var=bind",
    true,
  ],
] as const)("%j with systemd.volatile=%s gives %s", (settings, mode, expected, writable) => {
  const plan = planMounts("1d", settings, mode);
  expect(describePlan(plan)).toBe(expected);
  expect(plan.needsWritableState).toBe(writable);
});

test("systemd.volatile=overlay keeps the machine's own /etc visible, a transient /etc does not", () => {
  const lower = (mode: "overlay" | "yes") =>
    planMounts("1d", DEFAULT_SETTINGS, mode).attachments.find(({ at }) => at === "etc");
  expect(lower("overlay")).toMatchObject({ lower: ETC });
  expect(lower("yes")).toMatchObject({ lower: null });
});
