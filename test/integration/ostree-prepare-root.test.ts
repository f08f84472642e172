// prepare-root on ostree deployments beside the real one (ostree 2026.4): the same disk, config and
// command line given to both; mount table, /run and exit codes must be the same.

import { describe, expect, test } from "vitest";
import {
  disk,
  hideRandomName,
  type OstreeCase,
  runOnOstreeDisk,
  useOstreeDisk,
} from "../support/ostree-sysroot.ts";

useOstreeDisk();

const YES = "[composefs]\nenabled=yes\n";
const HOTFIX = 'chattr -i "$D"; mkdir "$D/.usr-ovl-work" "$D/.usr-ovl-upper"';
const NO_IMAGE = 'chattr -i "$D"; rm "$D/.ostree.cfs"';
const LEGACY = (value: string) => `printf '[sysroot]\\n${value}\\n' >>ostree/repo/config`;
const karg = (value: string) => `ostree.prepare-root.composefs=${value}`;

const MATRIX: readonly (readonly [name: string, each: OstreeCase])[] = [
  ["composefs", { config: YES }],
  ["composefs, from /usr/lib", { libConfig: YES }],
  ["no config: the deployment itself is bound", {}],
  ["an empty config", { config: "" }],
  ["the karg turns composefs off", { config: YES, extra: karg("0") }],
  ["the karg turns composefs on", { extra: karg("yes") }],
  ["the first of two kargs counts", { config: YES, extra: `${karg("no")} ${karg("yes")}` }],
  ["maybe, with an image", { config: "[composefs]\nenabled=maybe\n" }],
  ["maybe, without one", { config: "[composefs]\nenabled=maybe\n", setup: NO_IMAGE }],
  ["maybe from the karg", { extra: karg("maybe") }],
  ["verity", { config: "[composefs]\nenabled=verity\n" }],
  [
    "verity stays when the karg says yes",
    { config: "[composefs]\nenabled=verity\n", extra: karg("1") },
  ],
  ["a transient root", { config: `${YES}[root]\ntransient=true\n` }],
  ["a transient root that is read-only", { config: `${YES}[root]\ntransient-ro=true\n` }],
  ["a transient /etc", { config: `${YES}[etc]\ntransient=true\n` }],
  ["a transient /etc without composefs", { config: "[etc]\ntransient=1\n[sysroot]\nreadonly=1\n" }],
  ["a transient /etc on a writable legacy root", { config: "[etc]\ntransient=1\n" }],
  [
    "everything transient",
    { config: `${YES}[root]\ntransient=true\n[etc]\ntransient=true\n[sysroot]\nreadonly=false\n` },
  ],
  ["a writable /sysroot", { config: `${YES}[sysroot]\nreadonly=false\n` }],
  ["a read-only /sysroot without composefs", { config: "[sysroot]\nreadonly=true\n" }],
  ["read-only by the repository's config", { setup: LEGACY("readonly=true") }],
  [
    "… also with spaces, and against the newer file",
    {
      config: "[sysroot]\nreadonly=false\n",
      setup: LEGACY(" readonly = 1"),
    },
  ],
  [
    "… which does not count with composefs",
    {
      config: `${YES}[sysroot]\nreadonly=false\n`,
      setup: LEGACY("readonly=true"),
    },
  ],
  [
    "… but does with maybe",
    {
      config: "[composefs]\nenabled=maybe\n",
      setup: LEGACY("readonly=true"),
    },
  ],
  ["… and is ignored when malformed", { setup: LEGACY("readonly=perhaps") }],
  ["a repository's config that is garbage", { setup: "echo garbage >ostree/repo/config" }],
  [
    "both files, of which only the last counts",
    {
      libConfig: `${YES}[root]\ntransient=true\n`,
      config: "[sysroot]\nreadonly=true\n",
    },
  ],
  [
    "comments, spaces and unknown keys",
    {
      config: "# note\n\n[composefs]\n enabled = yes \n[future]\nkey=1\n",
    },
  ],
  ["a hotfix overlay on /usr", { setup: HOTFIX }],
  ["a hotfix overlay on an image", { config: YES, setup: HOTFIX }],
  ["a disk mounted read-only", { config: YES, mountOptions: "ro" }],
  ["a disk mounted read-only, legacy", { mountOptions: "ro" }],
  [
    "a disk mounted with flags, as systemd finds it",
    {
      config: YES,
      mountOptions: "nosuid,nodev,noexec",
    },
  ],
  [
    "a disk mounted with flags, legacy",
    {
      config: "[sysroot]\nreadonly=true\n",
      mountOptions: "nosuid,nodev,noexec",
    },
  ],
  ["no /boot/loader", { config: YES, setup: "rm boot/loader" }],
  ["the command line of the kernel", { config: YES, cmdline: null }],
  [
    "systemd's runtime directory already there",
    {
      config: YES,
      before: "mkdir run/systemd; ln -s /dev/block/1:1 run/systemd/volatile-root",
    },
  ],
  [
    "slot a of an Android boot loader",
    {
      config: YES,
      setup: 'ln -s "deploy/labos/deploy/$BASE" ostree/root.a',
      cmdline: "androidboot.slot_suffix=_a ostree=/nowhere",
    },
  ],
  [
    "slot b",
    {
      setup: 'ln -s "deploy/labos/deploy/$BASE" ostree/root.b',
      cmdline: "quiet androidboot.slot_suffix=_b androidboot.slot_suffix=_a",
    },
  ],
  [
    "an Android boot loader without slots",
    {
      setup: 'ln -s "deploy/labos/deploy/$BASE" ostree/root.a',
      cmdline: "quiet androidboot.mode=normal",
    },
  ],
  [
    "another place for the symlink, and another name of the deployment",
    {
      config: YES,
      setup:
        'chattr -i "$D"; mv "$D" "$D/../1234"; ln -s "../ostree/deploy/labos/deploy/1234" boot/ostree.0',
      cmdline: "ostree=/boot/ostree.0",
    },
  ],
  [
    "a disk that systemd has found by its type",
    {
      config: YES,
      before:
        "mount -t tmpfs dev dev; cp -a /dev/loop* /dev/null /dev/urandom dev/; mknod dev/gpt-auto-root b 7 77",
    },
  ],
];

describe.each(MATRIX)("%s", (_, each) => {
  test("both programs do the same", async () => {
    const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
    expect(theirs.code, theirs.output).toBe(0);
    expect(ours.code, ours.output).toBe(0);
    expect(ours.mounts).toEqual(theirs.mounts);
    expect(ours.mounts.length).toBeGreaterThan(1);
    expect(ours.run).toEqual(theirs.run);
    const text = (booted: Buffer | null) => hideRandomName(booted!.toString("latin1"));
    expect(text(ours.booted)).toBe(text(theirs.booted));
  });
});

test("called as prepare-root it starts what ostree= names, with the same result", async () => {
  const each = { config: YES, cmdline: null };
  const { prepareRoot, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "prepareRoot"]);
  expect(prepareRoot.output).toMatch(/^prepare-root: mounted ostree:\w{12} composefs=yes /);
  expect(prepareRoot.code).toBe(0);
  expect(prepareRoot.mounts).toEqual(theirs.mounts);
  expect(prepareRoot.run).toEqual(theirs.run);
});

test("systemd.volatile= is not done, and that is said", async () => {
  const each = { config: YES, extra: "systemd.volatile=overlay" };
  const { ours, theirs } = await runOnOstreeDisk(disk, each, ["theirs", "ours"]);
  expect(ours.output).toMatch(/^prepare-root: systemd.volatile= is ignored on ostree deployments/);
  expect(ours.mounts).toEqual(theirs.mounts);
});

describe("with older kernels", () => {
  const run = async (kernel: object, config = YES) => {
    const { withKernel } = await runOnOstreeDisk(
      disk,
      {
        config,
        cmdline: null,
        before: `export PREPARE_ROOT_KERNEL='${JSON.stringify(kernel)}'`,
        after:
          '[ "$code" != 0 ] || { wc -c <sysroot/usr/share.bin; ls sysroot; cat sysroot/etc/hosts; }',
      },
      ["withKernel"],
    );
    return withKernel;
  };

  test.each([
    ["6.7 to 6.14", { detachedTrees: false }, "lowerdir+="],
    ["6.5", { layers: "data-only", verity: false }, "::/sysroot/ostree/repo/objects"],
    [
      "5.15",
      { layers: "plain", verity: false, erofs: "loop", detachedTrees: false },
      "lowerdir=/run/ostree/.private/cfsroot-lower:/sysroot/ostree/repo/objects",
    ],
  ])("%s", async (_, kernel, layers) => {
    const { after, code, mounts, output } = await run(kernel);
    expect(code, output).toBe(0);
    expect(mounts[0]).toContain(layers);
    expect(mounts).toHaveLength(4);
    const names = "bin boot dev etc lib lib64 ostree proc run sbin sys sysroot tmp usr var";
    expect(after.split("\n")).toEqual(["100000", ...names.split(" "), "127.0.0.1"]);
  });

  test("fs-verity is never left out because the kernel cannot check it", async () => {
    const verity = "[composefs]\nenabled=verity\n";
    const { code, output } = await run({ layers: "data-only", verity: false }, verity);
    expect(code).toBe(1);
    expect(output).toContain("cannot check files by fs-verity, as prepare-root.conf wants");
  });
});
