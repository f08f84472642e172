// A Debian that the real `ostree admin deploy` has deployed, with fs-verity, started by our prepare-root:
// in a quick test run signed and plain; with TEST_ALL=1 in every mode, and beside the real prepare-root.
//
// Both programs also run one after the other in the same initramfs, where their mounts, their files and
// the time they take are compared.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Machine } from "./machine.ts";
import {
  KEY_FILE,
  type OstreeBootCase,
  readBootedText,
  readStartedFacts,
  runInInitramfs,
  setupCommands,
} from "./ostree-case.ts";
import {
  ensureOstreeGuest,
  type OstreeGuest,
  OTHER_PUBLIC_KEY,
  PUBLIC_KEY,
} from "./ostree-disk.ts";
import { release, resumeHeld } from "./ostree-hold.ts";
import { MODES, type OstreeMode } from "./ostree-modes.ts";
import { describeTimes, timePrograms } from "./ostree-timing.ts";
import { ensureOstreeTree, ensureOurInitramfs } from "./ostree-tree.ts";

const SLOW_MS = 600_000;
const OURS = "/usr/lib/ostree/ostree-prepare-root";
const THEIRS = "/usr/lib/rig/ostree-prepare-root";
const all = process.env["TEST_ALL"] !== undefined;

let guest: OstreeGuest;
/** The same with our initramfs. */
let ours: OstreeGuest;

beforeAll(async () => {
  guest = await ensureOstreeGuest(console.log);
  ours = { ...guest, initrd: await ensureOurInitramfs(await ensureOstreeTree(), console.log) };
});

const mode = (name: string): OstreeMode => {
  const found = MODES.find((each) => each.name === name);
  if (found === undefined) throw new Error(`No mode "${name}"`);
  return found;
};

/** A guest that waits in the initramfs, set up. */
async function hold(name: string, boot: OstreeGuest, each: OstreeBootCase): Promise<Machine> {
  const machine = await resumeHeld(`ostree-${name.replaceAll(/[^a-z]+/g, "-")}`, boot, console.log);
  try {
    await machine.must(setupCommands(each, boot));
    return machine;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

/** The started system. */
async function start(name: string, boot: OstreeGuest, each: OstreeBootCase): Promise<Machine> {
  const machine = await hold(name, boot, each);
  try {
    await release(machine, "boot");
    await machine.waitReady(SLOW_MS);
    return machine;
  } catch (error) {
    machine.keep();
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

describe("in one initramfs", () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = await hold("initramfs", ours, mode("composefs"));
  });
  afterAll(() => machine?.[Symbol.asyncDispose]());

  test("dracut's module for ostree and ours make one unit, which starts ours", async () => {
    const names = await machine.must(
      "systemctl show -P Id ostree-prepare-root.service bootc-root-setup.service | sort -u",
    );
    expect(names).toBe("prepare-root.service");
    const files = await machine.must(
      "readlink -f /usr/lib/ostree/ostree-prepare-root /usr/lib/bootc/prepare-root | sort -u; readlink -f /usr/lib/rig/ostree-prepare-root",
    );
    expect(files).toBe("/usr/bin/bootc\n/usr/lib/rig/ostree-prepare-root");
    const wanted = await machine.must(
      "systemctl show -P Wants -P Requires initrd-root-fs.target | tr ' ' '\\n' | grep prepare-root",
    );
    expect(new Set(wanted.split("\n"))).toEqual(new Set(["prepare-root.service"]));
  });

  test.each(MODES.filter(({ peer }) => peer))("both programs do the same: $name", async (each) => {
    const results = [];
    for (const program of [THEIRS, OURS]) {
      await machine.must(setupCommands(each, ours));
      results.push(await runInInitramfs(machine, program));
      await machine.must(setupCommands({ ...each, setup: each.undo ?? "" }, ours));
    }
    const [theirs, same] = results;
    expect(theirs).toContain("exit code 0");
    expect(same).toBe(theirs);
  });

  test("how long both take, from their start to the mounted root", async () => {
    for (const name of ["composefs", "verity", "an empty config"]) {
      await machine.must(setupCommands(mode(name), ours));
      const times = await timePrograms(machine, { ours: OURS, theirs: THEIRS });
      console.log(describeTimes(name, times));
      // Neither may have failed, or a refusal would have been measured.
      expect(times.map(({ code }) => code)).toEqual(times.map(() => 0));
    }
  });
});

/** The quick run has the first of each. */
const some = <T>(list: readonly T[], count: number): readonly T[] =>
  all ? list : list.slice(0, count);

describe("a started system", () => {
  test.each(some(MODES, 2))("runs: $name", async (each) => {
    await using machine = await start(each.name, ours, each);
    const facts = await readStartedFacts(machine);
    expect(facts.state).toBe("running");
    expect(facts.status).toMatch(new RegExp(`^\\* debian ${guest.commit}\\.0`));
    const root = facts.mounts.find((line) => / \/ \/ /.test(line) || / \/\S* \/ /.test(line));
    for (const word of each.root) expect(root).toMatch(new RegExp(`[ ,]${word}([ ,]|$)`));
    expect(facts.writable.split("\n")).toEqual([...each.writable]);
    expect(facts.units).toMatch(/ostree-remount\.service loaded active exited/);
    const booted = await readBootedText(machine);
    expect(booted.includes(`composefs.signed ${KEY_FILE}`)).toBe(each.key !== undefined);
    console.log(`${each.name}: ${await machine.must("cat /run/composefs/prepare-root")}`);
    if (!all || !each.peer) return;
    await using peer = await start(`peer-${each.name}`, guest, each);
    expect(facts).toEqual(await readStartedFacts(peer));
  });

  test.skipIf(!all)("gives an I/O error for a changed object", async () => {
    await using machine = await start("tampered-object", ours, mode("verity"));
    await machine.must(CHANGE_BYTE(`/sysroot/${guest.deployment}/usr/bin/fsverity`));
    const { code, output } = await machine.run("cat /usr/bin/fsverity >/dev/null");
    expect([code, output]).toEqual([1, expect.stringContaining("Input/output error")]);
  });
});

/** Under the file system; fs-verity finds it. */
const CHANGE_BYTE = (path: string): string => `
  set -e
  device=/dev/disk/by-id/virtio-disk
  block=$(filefrag -e -b4096 ${path} | sed -n 's/^ *0: *0\\.\\. *[0-9]*: *\\([0-9]*\\)\\.\\..*/\\1/p')
  [ -n "$block" ]
  printf X | dd of=$device bs=1 seek=$((block * 4096 + 2048)) conv=notrunc,fsync status=none
  echo 3 >/proc/sys/vm/drop_caches`;

const SIGNED = "[composefs]\nenabled=signed\n";
const REFUSALS: readonly (readonly [name: string, each: OstreeBootCase, message: RegExp])[] = [
  [
    "a wrong key",
    { config: SIGNED, key: OTHER_PUBLIC_KEY },
    /is signed by no key of this initramfs/,
  ],
  [
    "no key",
    { config: SIGNED },
    /the initramfs has no "\/etc\/ostree\/initramfs-root-binding\.key"/,
  ],
  [
    "no signature",
    { config: SIGNED, key: PUBLIC_KEY, setup: "rm $OBJECT.commitmeta" },
    /is not signed, and prepare-root\.conf wants/,
  ],
  [
    "a changed signature",
    {
      config: SIGNED,
      key: PUBLIC_KEY,
      setup: "printf XX | dd of=$OBJECT.commitmeta bs=1 seek=40 conv=notrunc status=none",
    },
    /is signed by no key of this initramfs, or was changed/,
  ],
  [
    "a changed commit",
    {
      config: SIGNED,
      key: PUBLIC_KEY,
      setup: "printf 2 | dd of=$OBJECT.commit bs=1 seek=20 conv=notrunc status=none",
    },
    /is signed by no key of this initramfs, or was changed/,
  ],
  [
    "another image, protected as well",
    {
      config: SIGNED,
      key: PUBLIC_KEY,
      setup: `chattr -i $D; cp $D/.ostree.cfs /run/other; echo >>/run/other; rm $D/.ostree.cfs
        cp /run/other $D/.ostree.cfs; fsverity enable $D/.ostree.cfs`,
    },
    /The image is not the one that was signed/,
  ],
  [
    "an image without protection",
    {
      config: SIGNED,
      key: PUBLIC_KEY,
      setup:
        "chattr -i $D; cp $D/.ostree.cfs /run/other; rm $D/.ostree.cfs; cp /run/other $D/.ostree.cfs",
    },
    /The image is not protected by fs-verity, which a signature needs/,
  ],
  [
    "an image changed on the disk",
    { config: SIGNED, key: PUBLIC_KEY, setup: `${CHANGE_BYTE("$D/.ostree.cfs")}` },
    /The deployment's image "\.ostree\.cfs" is damaged/,
  ],
];

describe("a signed deployment", () => {
  test.each(some(REFUSALS, 1))("is refused in one line: %s", async (name, each, message) => {
    await using machine = await hold(`refused-${name}`, ours, each);
    await release(machine, "boot");
    const [line] = await machine.waitForConsole(
      /prepare-root: refused: [^\r\n]+(?=[\r\n])/,
      SLOW_MS,
    );
    console.log(line);
    expect(line).toMatch(message);
    await machine.waitForConsole(/This deployment cannot be started/, SLOW_MS);
    await machine.kill();
    expect(machine.consoleText().match(/prepare-root: refused: /g)).toHaveLength(1);
  });
});
