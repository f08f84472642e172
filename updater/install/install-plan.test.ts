import { describe, expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { idOf, makeImage, SYSTEMD_LAYOUT } from "../../test/support/small-world.ts";
import { chooseTrialKargs } from "../deploy/trial-kargs.ts";
import {
  describeRootDiscovery,
  parseKargDeletes,
  planInstall,
  rootArguments,
} from "./install-plan.ts";

test.each([
  ["UUID=1", null, [], "root=UUID=1 rw"],
  ["", "", ["a=b c", 'd="e f"'], 'rw a=b c d="e f"'],
  ["LABEL=r", "UUID=2", [], "root=LABEL=r rw boot=UUID=2 systemd.mount-extra=UUID=2:/boot:auto:ro"],
])("root %j, boot %j, --karg %j", (rootSpec, bootSpec, kargs, expected) => {
  expect(formatCmdline(rootArguments({ rootSpec, bootSpec, kargs, kargDeletes: [] }))).toBe(
    expected,
  );
});

test.each(["composefs=00", "composefs.digest=x", 'a="b', 'a="b\nc"'])(
  "refuses --karg %s",
  (karg) => {
    const make = () =>
      rootArguments({ rootSpec: "", bootSpec: null, kargs: [karg], kargDeletes: [] });
    expect(make).toThrow(UsageError);
    expect(() => parseKargDeletes([karg])).toThrow(UsageError);
  },
);

/** What we add ourselves. */
const TRIAL_KARGS = chooseTrialKargs([], []);

test("order of arguments; an equal kernel on the partition is used", () => {
  const image = makeImage("a", { kargs: parseCmdline("quiet console=ttyS0") });
  const kernels = [{ name: "bootc_composefs-old", bootDigest: image.bootDigest }];
  const plan = planInstall({
    image,
    kargs: parseCmdline("root=UUID=1 rw console=ttyS0"),
    kargDeletes: [],
    kernels,
    layout: SYSTEMD_LAYOUT,
    verityOptional: true,
  });
  expect(plan.cmdline).toBe(
    `root=UUID=1 rw console=ttyS0 composefs=?${idOf("a")} quiet ${TRIAL_KARGS}`,
  );
  expect(plan.kernel).toEqual({ kind: "bls", directory: "bootc_composefs-old", write: false });
  expect(plan.entry.fileName).toBe("bootc_fedora-a-1.conf");
  // Both want it: it outlives the image's wish.
  expect(plan.entry.text).toContain("\nx-options-source-bootc-machine console=ttyS0\n");
});

test("a sealed kernel: an entry without arguments; a chosen addon", () => {
  const unified = {
    sealedCmdline: "quiet composefs=1",
    addons: ["a.addon.efi", "b.addon.efi"],
    globalAddons: [],
  };
  const facts = {
    image: makeImage("a", { unified }),
    ukiAddons: ["b"],
    kargs: parseCmdline("root=UUID=1 rw"),
    kargDeletes: [],
    kernels: [],
    layout: SYSTEMD_LAYOUT,
    verityOptional: false,
  };
  const plan = planInstall(facts);
  expect(plan).toMatchObject({
    cmdline: "quiet composefs=1",
    addons: "[]\n",
    kernel: { kind: "uki", addons: [{ name: "b.addon.efi", from: "image" }] },
  });
  expect(plan.entry.text).not.toContain("options");
  expect(plan.origin).toContain("boot_type=uki");
  expect(() => planInstall({ ...facts, image: makeImage("a") })).toThrow(
    "--uki-addon: the image has no unified kernel",
  );
});

describe("how a sealed system finds its root", () => {
  const ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
  const planOf = (sealedCmdline: string | null, addons: readonly string[] = []) =>
    planInstall({
      image: makeImage("a", { unified: { sealedCmdline, addons, globalAddons: [] } }),
      kargs: [],
      kargDeletes: [],
      kernels: [],
      layout: SYSTEMD_LAYOUT,
      verityOptional: false,
    });
  const found = "The sealed kernel has no root=: it finds the root by its GPT partition type";
  test.each<[string, string | null, readonly string[], string | null, string, string | null]>([
    ["told by the kernel", "a root=LABEL=x", [], "0fc6", "x64", null],
    ["maybe told by an addon", "a", ["a.addon.efi"], "0fc6", "x64", null],
    ["arguments in the entry", null, [], "0fc6", "x64", null],
    ["by the right type", "a noroot=1", [], ROOT, "x64", found],
    ["nobody knows the type", "a", [], null, "x64", found],
    ["nobody knows the architecture", "a", [], "0fc6", "vax", found],
    [
      "by a wrong type",
      "a",
      [],
      ROOT,
      "arm64",
      `${found}, which is ${ROOT} here and has to be b921`,
    ],
  ])("%s", (_, sealed, addons, type, architecture, expected) => {
    const text = describeRootDiscovery(planOf(sealed, addons), type, architecture);
    expect(text?.slice(0, expected?.length) ?? null).toBe(expected);
  });
});

test.each([
  ["rw", "root=1 ro", 'composefs=? console=tty0 console=ttyS0 a="b c"'],
  ["console", "root=1 rw ro", 'composefs=? a="b c"'],
  ['console=tty0 a="b c"', "root=1 rw ro", "composefs=? console=ttyS0"],
  ["nothing there", "root=1 rw ro", 'composefs=? console=tty0 console=ttyS0 a="b c"'],
  ["ro", "root=1 rw ro", 'composefs=? console=tty0 console=ttyS0 a="b c"'],
])("--karg-delete %j", (text, given, image) => {
  const kargDeletes = parseKargDeletes([text]);
  const kargs = rootArguments({ rootSpec: "1", bootSpec: null, kargs: ["ro"], kargDeletes });
  expect(formatCmdline(kargs)).toBe(given);
  const plan = planInstall({
    image: makeImage("a", { kargs: parseCmdline('console=tty0 console=ttyS0 a="b c"') }),
    kargs: [],
    kargDeletes,
    kernels: [],
    layout: SYSTEMD_LAYOUT,
    verityOptional: true,
  });
  expect(plan.cmdline.replace(idOf("a"), "").replace(` ${TRIAL_KARGS}`, "")).toBe(image);
});

test("an image that has all we would add: no source of ours", () => {
  const plan = planInstall({
    image: makeImage("a", { kargs: parseCmdline(`${TRIAL_KARGS} quiet`) }),
    kargs: parseCmdline("root=UUID=1 rw"),
    kargDeletes: [],
    kernels: [],
    layout: SYSTEMD_LAYOUT,
    verityOptional: true,
  });
  expect(plan.entry.text).not.toContain("x-options-source");
  expect(plan.cmdline).toBe(`root=UUID=1 rw composefs=?${idOf("a")} ${TRIAL_KARGS} quiet`);
});

test("--karg-delete of what we add ourselves lasts, since the source has it", () => {
  const plan = planInstall({
    image: makeImage("a"),
    kargs: parseCmdline("panic"),
    kargDeletes: parseKargDeletes(["panic rd.shell=0"]),
    kernels: [],
    layout: SYSTEMD_LAYOUT,
    verityOptional: true,
  });
  expect(plan.cmdline).toBe(
    `panic composefs=?${idOf("a")} systemd.crash_action=reboot rd.emergency=reboot`,
  );
  expect(plan.entry.text).toMatch(/\nx-options-source-bootc .*rd\.shell=0 rd\.emergency=reboot\n/);
});
