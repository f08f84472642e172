import { describe, expect, test } from "vitest";
import { parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import {
  idOf,
  installWorld,
  makeEntry,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { planStage } from "./stage-plan.ts";

const [a, b] = [makeImage("a"), makeImage("b")];
const world = installWorld(a);

test("the new entry's text is bootc's, line by line", () => {
  const plan = planStage(world, stageRequest(b));
  expect(plan.entries[0]?.text).toBe(
    `title Fedora b
version b
linux /EFI/Linux/bootc_composefs-${b.id}/vmlinuz
initrd /EFI/Linux/bootc_composefs-${b.id}/initrd
options root=UUID=1 rw composefs=${b.id} panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot
sort-key bootc-fedora-0
x-options-source-bootc panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot
`,
  );
  expect(plan.origin).toBe(
    `[origin]
container-image-reference=ostree-unverified-image:oci:/images/os
[boot]
boot_type=bls
digest=${b.bootDigest}
[image]
manifest_digest=${b.manifestDigest}
`,
  );
  expect(plan.stagedFile).toBe(`{"depl_id":"${b.id}","finalization_locked":false}`);
});

test("the fallback keeps everything but its sort key", () => {
  const [, fallback] = planStage(world, stageRequest(b)).entries;
  expect(fallback?.text).toBe(
    world.live[0]!.text.replace("sort-key bootc-fedora-0", "sort-key bootc-fedora-1"),
  );
});

describe("kernel arguments", () => {
  test("local ones stay, the image's change, the image is named once, verity may be optional", () => {
    const options = `root=UUID=1 rw local="a b" old composefs=${a.id} composefs=${a.id}`;
    const text = world.live[0]!.text.replace(/^options .*$/m, `options ${options}`);
    const changed = { ...world, live: [makeEntry("bootc_fedora-a-1.conf", text)] };
    const plan = planStage(
      changed,
      stageRequest(makeImage("b", { kargs: parseCmdline("new=1 kept") }), {
        imageKargs: new Map([[idOf("a"), parseCmdline("old kept")]]),
        verityOptional: true,
      }),
    );
    expect(plan.cmdline).toBe(`root=UUID=1 rw local="a b" composefs=?${b.id} new=1`);
  });
});

describe("names", () => {
  test.each([
    [
      new Map([
        ["ID", "opensuse-leap"],
        ["VERSION_ID", "15.6"],
      ]),
      "bootc_opensuse_leap-15.6-1+3.conf",
    ],
    [
      new Map([
        ["ID", "debian"],
        ["VERSION_ID", "13+2"],
      ]),
      "bootc_debian-13_2-1+3.conf",
    ],
    [new Map([["ID", "arch"]]), `bootc_arch-${idOf("b")}-1+3.conf`],
    [new Map([["VERSION", "1/../x"]]), "bootc_bootc-1_.._x-1+3.conf"],
  ])("%o", (osRelease, fileName) => {
    const plan = planStage(world, stageRequest(makeImage("b", { osRelease })));
    expect(plan.entries[0]?.fileName).toBe(fileName);
  });

  test("the same version twice gives two names, by priority", () => {
    const osRelease = new Map([
      ["ID", "fedora"],
      ["VERSION_ID", "a"],
    ]);
    const plan = planStage(world, stageRequest(makeImage("b", { osRelease })));
    expect(plan.entries.map((entry) => entry.fileName)).toEqual([
      "bootc_fedora-a-1+3.conf",
      "bootc_fedora-a-0.conf",
    ]);
  });

  test("another distribution's entry still boots first", () => {
    const osRelease = new Map([
      ["ID", "zorin"],
      ["VERSION_ID", "1"],
    ]);
    const plan = planStage(world, stageRequest(makeImage("b", { osRelease })));
    expect(plan.entries.map((entry) => /^sort-key (.*)$/m.exec(entry.text)?.[1])).toEqual([
      "bootc-zorin-0",
      "bootc-zorin-1",
    ]);
  });

  test("the running entry's boot counter goes with it", () => {
    const counted = {
      ...world,
      live: [makeEntry("bootc_fedora-a-1+2-1.conf", world.live[0]!.text)],
    };
    expect(planStage(counted, stageRequest(b)).entries[1]?.fileName).toBe(
      "bootc_fedora-a-0+2-1.conf",
    );
  });
});

const unified = {
  ...world,
  live: [makeEntry("bootc_fedora-a-1.conf", `uki /EFI/Linux/bootc/bootc_composefs-${a.id}.efi\n`)],
};

test.each([
  ["a booted unified kernel that is gone", unified, b, "its unified kernel cannot be read"],
  ["the booted image", world, a, "existing booted deployment"],
  ["no booted system", { ...world, booted: null }, b, "not booted via bootc"],
  ["a booted image without entry", { ...world, live: [] }, b, "has no boot entry"],
] as const)("refuses %s", (_, state, image, message) => {
  expect(() => planStage(state, stageRequest(image))).toThrow(message);
});
