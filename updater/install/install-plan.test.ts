import { expect, test } from "vitest";
import { UsageError } from "../../shared/error.ts";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { idOf, makeImage } from "../../test/support/small-world.ts";
import { planInstall, rootArguments } from "./install-plan.ts";

test.each([
  ["UUID=1", null, [], "root=UUID=1 rw"],
  ["", "", ["a=b c", 'd="e f"'], 'rw a=b c d="e f"'],
  ["LABEL=r", "UUID=2", [], "root=LABEL=r rw boot=UUID=2 systemd.mount-extra=UUID=2:/boot:auto:ro"],
])("root %j, boot %j, --karg %j", (rootSpec, bootSpec, kargs, expected) => {
  expect(formatCmdline(rootArguments({ rootSpec, bootSpec, kargs }))).toBe(expected);
});

test.each(["composefs=00", "composefs.digest=x", 'a="b', 'a="b\nc"'])(
  "refuses --karg %s",
  (karg) => {
    const make = () => rootArguments({ rootSpec: "", bootSpec: null, kargs: [karg] });
    expect(make).toThrow(UsageError);
  },
);

test("order of arguments; an equal kernel on the partition is used", () => {
  const image = makeImage("a", { kargs: parseCmdline("quiet console=ttyS0") });
  const kernels = [{ name: "bootc_composefs-old", bootDigest: image.bootDigest }];
  const plan = planInstall({
    image,
    kargs: parseCmdline("root=UUID=1 rw console=ttyS0"),
    kernels,
    verityOptional: true,
  });
  expect(plan.cmdline).toBe(`root=UUID=1 rw console=ttyS0 composefs=?${idOf("a")} quiet`);
  expect(plan.kernel).toEqual({ directory: "bootc_composefs-old", write: false });
  expect(plan.entry.fileName).toBe("bootc_fedora-a-1.conf");
});
