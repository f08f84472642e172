// Real GRUB with entries, script and grubenv of ours: a new deployment whose kernel panics is tried as often
// as it was granted, then the old one starts; the order of the menu is the one that was planned.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseEnvironment } from "../../shared/format/grub/environment.ts";
import { type GrubTrial, interpretTrial } from "../../updater/boot/grub-counter.ts";
import { ensureDebianKernel } from "./debian-kernel.ts";
import { type GrubDisks, type GrubMenu, makeGrubDisks } from "./grub-disk.ts";
import { type Machine, startMachine } from "./machine.ts";

const LIMIT_MS = 300_000;
const STARTED = /Command line: (.*)$/gm;

type Case = Omit<GrubMenu, "kernel"> & {
  readonly what: string;
  readonly starts: readonly string[];
  readonly left: Omit<GrubTrial, "fallbackId">;
};

const MENUS: readonly Case[] = [
  {
    what: "2.12, which cannot read entries: two tries, then the old deployment",
    release: "trixie",
    versions: ["12", "13"],
    tries: 2,
    withScript: true,
    starts: ["new", "new", "old"],
    left: { left: 0, success: false, fallback: true },
  },
  {
    what: "2.14 with the entries alone: an older version that is wanted first is first",
    release: "forky",
    versions: ["9", "13"],
    tries: null,
    withScript: false,
    starts: ["new"],
    left: { left: null, success: false, fallback: false },
  },
];

describe.each(MENUS)("GRUB $what", ({ what, starts, left, ...menu }) => {
  let disks: GrubDisks;
  let machine: Machine;
  let commandLines: readonly string[];

  beforeAll(async () => {
    const { vmlinuz } = await ensureDebianKernel("trixie", console.log);
    disks = await makeGrubDisks({ ...menu, kernel: vmlinuz });
    machine = await startMachine({
      name: `grub-${menu.release}`,
      boot: { kind: "uefi" },
      disks: disks.disks,
      memoryMb: 512,
      cpus: 1,
      agent: false,
      onLine: console.log,
    });
    const times = `(?:Command line: [^]*?){${starts.length}}deployment=${starts.at(-1)}[^\\n]*\\n`;
    await machine.waitForConsole(new RegExp(times), LIMIT_MS);
    commandLines = [...machine.consoleText().matchAll(STARTED)].map((match) => match[1]!);
    await machine.kill();
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
    disks?.[Symbol.dispose]();
  });

  test("starts in this order", () => {
    const order = commandLines.map((line) => /deployment=(\w+)/.exec(line)?.[1]);
    expect(order, what).toEqual(starts);
  });

  test("hands the kernel its arguments, quotes included", () => {
    expect(commandLines[0]).toMatch(/ "note=two words"\s*$| note="two words"\s*$/);
  });

  test("leaves behind whether it fell back, and which tries are left", () => {
    const environment = parseEnvironment(disks.read("/grub/grubenv"));
    expect(interpretTrial(environment)).toMatchObject(left);
  });
});
