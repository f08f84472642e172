import { expect, test } from "vitest";
import { parseOstreeConfig } from "./config.ts";
import { type OstreeFacts, type OstreeStep, planOstreeRoot, planStaticRoot } from "./plan.ts";

const DEPLOYMENT = "/ostree/deploy/os/deploy/ab.0";

function facts(text: string, found: Partial<OstreeFacts> = {}): OstreeFacts {
  return {
    sysroot: "/sysroot",
    run: "/run",
    deployment: DEPLOYMENT,
    device: { number: 1n, inode: 2n },
    config: parseOstreeConfig([{ path: "conf", text }], null),
    legacyReadOnly: false,
    diskReadOnly: false,
    hasImage: true,
    hasHotfix: false,
    mountsVar: false,
    digest: null,
    etcScratch: "/run/ostree/transient-etc.X",
    ...found,
  };
}

/** A short line for each step that mounts. */
function describeSteps(steps: readonly OstreeStep[]): string[] {
  return steps.flatMap((step) => {
    switch (step.kind) {
      case "directory":
        return [];
      case "image":
        return [`image ${step.at}${step.readOnly ? " ro" : ""}${step.upper ? " upper" : ""}`];
      case "bind":
        return [`bind ${step.from} ${step.at}`];
      case "remount":
        return [`remount ${step.at} ${step.readOnly ? "ro" : "rw"}`];
      case "propagation":
        return [`${step.to} ${step.at}`];
      default:
        return [`overlay ${step.at}${step.readOnly ? " ro" : ""}`];
    }
  });
}

const YES = "[composefs]\nenabled=yes\n";
const ETC = ["bind etc /sysroot.tmp/etc", "remount /sysroot.tmp/etc rw"];
const SYSROOT = "bind /sysroot /sysroot.tmp/sysroot";
const VAR = "/sysroot.tmp/sysroot/ostree/deploy/os/var";
const OWN_VAR = [`bind ${VAR} ${VAR}`, `remount ${VAR} rw`];

test("an image: root and /sysroot read-only, /etc bound, the stateroot's var writable", () => {
  const plan = planOstreeRoot(facts(YES));
  const last = "remount /sysroot.tmp/sysroot ro";
  const expected = ["image /sysroot.tmp ro", ...ETC, SYSROOT, ...OWN_VAR, last];
  expect(describeSteps(plan.steps)).toEqual(expected);
  expect(plan).toMatchObject({ isImage: true, stacksOverlays: false });
  expect(plan.steps.find(({ kind }) => kind === "image")).toEqual({
    kind: "image",
    image: ".ostree.cfs",
    scratch: "/run/ostree/.private/cfsroot-lower",
    objects: "/sysroot/ostree/repo/objects",
    at: "/sysroot.tmp",
    requireVerity: false,
    digest: null,
    upper: null,
    readOnly: true,
  });
});

test("no image: the deployment is bound, /usr read-only, /etc a part of it", () => {
  const plan = planOstreeRoot(facts(""));
  expect(describeSteps(plan.steps)).toEqual([
    `bind /sysroot${DEPLOYMENT} /sysroot.tmp`,
    "bind /sysroot.tmp/usr /sysroot.tmp/usr",
    "remount /sysroot.tmp/usr ro",
    SYSROOT,
  ]);
  expect(plan.isImage).toBe(false);
});

test.each([
  [YES, {}, "root=ro etc=bind usr=ro var=none sysroot=ro"],
  [`${YES}[root]\ntransient=1\n`, {}, "root=writable etc=bind usr=ro var=none sysroot=ro"],
  [`${YES}[root]\ntransient-ro=1\n`, {}, "root=read-only etc=bind usr=ro var=none sysroot=ro"],
  [`${YES}[etc]\ntransient=1\n`, {}, "root=ro etc=transient usr=ro var=none sysroot=ro"],
  [`${YES}[sysroot]\nreadonly=0\n`, {}, "root=ro etc=bind usr=ro var=none sysroot=rw"],
  [YES, { mountsVar: true }, "root=ro etc=bind usr=ro var=bind sysroot=ro"],
  [YES, { hasHotfix: true }, "root=ro etc=bind usr=hotfix var=none sysroot=ro"],
  ["", { hasHotfix: true }, "root=bind etc=none usr=hotfix var=none sysroot=rw"],
  // What lies beside a signed image is not signed.
  [
    "[composefs]\nenabled=signed\n",
    { hasHotfix: true },
    "root=ro etc=bind usr=ro var=none sysroot=ro",
  ],
  ["", { legacyReadOnly: true }, "root=bind etc=bind usr=ro var=none sysroot=ro"],
  ["[composefs]\nenabled=maybe\n", {}, "root=ro etc=bind usr=ro var=none sysroot=rw"],
  [
    "[composefs]\nenabled=maybe\n[etc]\ntransient=1\n",
    { hasImage: false },
    "root=bind etc=none usr=ro var=none sysroot=rw",
  ],
])("%j with %j", (text, found, expected) => {
  expect(planOstreeRoot(facts(text, found)).text).toBe(expected);
});

test("overlays on the image are known, since some kernels allow one level less", () => {
  const stacks = (text: string, found = {}) => planOstreeRoot(facts(text, found)).stacksOverlays;
  expect(stacks(`${YES}[etc]\ntransient=1\n`)).toBe(true);
  expect(stacks(YES, { hasHotfix: true })).toBe(true);
  expect(stacks("[etc]\ntransient=1\n[sysroot]\nreadonly=1\n")).toBe(false);
});

test("the hotfix overlay is read-only on a read-only disk, and /var is shared when mounted", () => {
  const plan = planOstreeRoot(facts("", { hasHotfix: true, diskReadOnly: true, mountsVar: true }));
  expect(describeSteps(plan.steps).slice(1)).toEqual([
    "overlay /sysroot.tmp/usr ro",
    SYSROOT,
    `bind ${VAR} /sysroot.tmp/var`,
    "slave /sysroot.tmp/var",
    "shared /sysroot.tmp/var",
  ]);
});

test("directories in /run have the modes that are expected of them", () => {
  const { steps } = planOstreeRoot(facts(`${YES}[root]\ntransient=1\n[etc]\ntransient=1\n`));
  const directories = steps.flatMap((step) =>
    step.kind === "directory" ? [`${step.mode.toString(8)} ${step.path}`] : [],
  );
  expect(directories).toEqual([
    "755 /run/ostree",
    "0 /run/ostree/.private",
    "700 /run/ostree/.private/cfsroot-lower",
    "755 /run/ostree/.private/root",
    "755 /run/ostree/.private/root/upper",
    "700 /run/ostree/.private/root/work",
    "700 /run/ostree/transient-etc.X",
    "755 /run/ostree/transient-etc.X/upper",
    "755 /run/ostree/transient-etc.X/work",
  ]);
});

test("a signed image is noted with the key file", () => {
  const config = "[composefs]\nenabled=signed\nkeypath=/k\n";
  const { booted, steps } = planOstreeRoot(facts(config, { digest: "12" }));
  expect(new Map(booted).get("composefs.signed")).toEqual({ type: "s", value: "/k" });
  expect(steps.find(({ kind }) => kind === "image")).toMatchObject({
    digest: "12",
    requireVerity: true,
  });
});

test.each([
  [YES, { hasImage: false }, 'has no ".ostree.cfs"'],
  ["[root]\ntransient=1\n", {}, "root.transient, which needs composefs"],
  ["[composefs]\nenabled=maybe\n[root]\ntransient-ro=1\n", { hasImage: false }, "needs composefs"],
])("%j with %j is refused", (text, found, message) => {
  expect(() => planOstreeRoot(facts(text, found))).toThrow(message);
});

test.each([
  [
    { sysrootReadOnly: false, hasBoot: false, hasHotfix: false },
    ["bind /sysroot.tmp/usr /sysroot.tmp/usr", "remount /sysroot.tmp/usr ro"],
  ],
  [
    { sysrootReadOnly: true, hasBoot: true, hasHotfix: true },
    [
      "bind /boot /sysroot.tmp/boot",
      ...ETC,
      "overlay /sysroot.tmp/usr",
      "bind /ostree/deploy/os/var /ostree/deploy/os/var",
      "remount /ostree/deploy/os/var rw",
    ],
  ],
])("without an initramfs, %j", (found, expected) => {
  const device = { number: 1n, inode: 2n };
  const plan = planStaticRoot({ deployment: DEPLOYMENT, device, ...found });
  expect(describeSteps(plan.steps)).toEqual([
    `bind ${DEPLOYMENT} /sysroot.tmp`,
    ...expected,
    "bind /ostree/deploy/os/var /sysroot.tmp/var",
  ]);
});
