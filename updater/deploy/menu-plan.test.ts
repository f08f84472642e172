// Names, sort keys and counters of whole menus; the rows of bootc.md Appendix A are in histories.test.ts.

import { describe, expect, test } from "vitest";
import {
  bootCounted,
  foreignEntry,
  idOf,
  installWorld,
  makeEntry,
  makeImage,
  SYSTEMD_LAYOUT,
} from "../../test/support/small-world.ts";
import { sortEntries } from "../boot/boot-entry.ts";
import { makeEspLayout } from "../boot/boot-layout.ts";
import { type MenuItem, planMenu } from "./menu-plan.ts";
import type { World } from "./world.ts";

const empty = { ...installWorld(makeImage("a")), live: [] };
const world = (...live: World["live"]): World => ({ ...empty, live });

/** Boots image "a" for digit "a"; its sort key is the distribution's at `position`. */
function entry(digit: string, id: string, { counter = "", position = 0, version = digit } = {}) {
  return makeEntry(
    `${id}${counter}.conf`,
    `version ${version}\nlinux /EFI/Linux/bootc_composefs-${idOf(digit)}/vmlinuz\noptions composefs=${idOf(digit)}\nsort-key bootc-fedora-${position}\n`,
  );
}

function fresh(digit: string, osRelease?: ReadonlyMap<string, string>): MenuItem {
  const image = makeImage(digit, osRelease === undefined ? {} : { osRelease });
  return {
    kind: "new",
    image,
    kernel: { kind: "bls", directory: `bootc_composefs-${image.id}` },
    options: "",
    extra: [],
  };
}
const kept = (from: World["live"][number], changes: object = {}): MenuItem => ({
  kind: "kept",
  entry: from,
  ...changes,
});

function show(menu: ReturnType<typeof planMenu>): string[] {
  return menu.map(({ fileName, text }) => {
    const { entry: parsed } = makeEntry(fileName, text);
    return `${fileName} ${parsed.sortKey}`;
  });
}

const good = entry("a", "bootc_fedora-a-1");
const trial = entry("b", "bootc_fedora-b-1", { counter: "+2-1" });
const older = entry("a", "bootc_fedora-a-0", { position: 1 });
const failed = entry("b", "bootc_fedora-b-1", { counter: "+0-3" });

describe("staging", () => {
  const stage = (from: World, ...items: MenuItem[]) =>
    show(planMenu(from, { names: "image", items }));

  test("what is new is counted, what is kept keeps its counter", () => {
    expect(stage(world(good), fresh("b"), kept(good))).toEqual([
      "bootc_fedora-b-1+3.conf bootc-fedora-0",
      "bootc_fedora-a-0.conf bootc-fedora-1",
    ]);
    expect(stage(world(trial, older), fresh("c"), kept(trial), kept(older))).toEqual([
      "bootc_fedora-c-1+3.conf bootc-fedora-0",
      "bootc_fedora-b-0+2-1.conf bootc-fedora-1",
      "bootc_fedora-a-0.conf bootc-fedora-2",
    ]);
  });

  test("one version three times gives three names", () => {
    const release = new Map([
      ["ID", "fedora"],
      ["VERSION_ID", "1"],
    ]);
    const first = entry("b", "bootc_fedora-1-1", { version: "1" });
    const second = entry("c", "bootc_fedora-1-0", { version: "1", position: 1 });
    expect(stage(world(first, second), fresh("d", release), kept(first), kept(second))).toEqual([
      "bootc_fedora-1-1+3.conf bootc-fedora-0",
      "bootc_fedora-1-0.conf bootc-fedora-1",
      "bootc_fedora-1.2-0.conf bootc-fedora-2",
    ]);
  });

  test("names that differ in case only are one on vfat", () => {
    const upper = makeEntry("BOOTC_FEDORA-B-1.conf", "version 1\nlinux /other\noptions root=x\n");
    expect(stage(world(good, upper), fresh("b"), kept(good))).toEqual([
      "bootc_fedora-b.0-1+3.conf bootc-fedora-0",
      "bootc_fedora-a-0.conf bootc-fedora-1",
      "BOOTC_FEDORA-B-1.conf null",
    ]);
  });

  test("entries that are not ours come last, untouched", () => {
    const menu = planMenu(world(good, foreignEntry()), {
      names: "image",
      items: [fresh("b"), kept(good)],
    });
    expect(menu.at(-1)).toEqual({
      fileName: foreignEntry().fileName,
      text: foreignEntry().text,
    });
  });

  test("a loader that does not count gets no counters", () => {
    const layout = makeEspLayout("grub-cc", "/esp");
    expect(stage({ ...world(trial), layout }, fresh("c"), kept(trial))).toEqual([
      "bootc_fedora-c-1.conf bootc-fedora-0",
      "bootc_fedora-b-0.conf bootc-fedora-1",
    ]);
  });
});

describe("menus that go live at once", () => {
  const rollback = (from: World, ...entries: World["live"]) =>
    show(planMenu(from, { names: "rollback", items: entries.map((one) => kept(one)) }));

  test("a rollback gives bootc's names", () => {
    const blessed = entry("b", "bootc_fedora-b-1");
    expect(rollback(world(blessed, older), older, blessed)).toEqual([
      "bootc_bootc-a-1.conf bootc-bootc-0",
      "bootc_bootc-b-0.conf bootc-bootc-1",
    ]);
  });

  test("the entry on trial keeps its id, its sort key puts it behind", () => {
    const running = bootCounted(world(trial, older), "bootc_fedora-b-1", 2, 1);
    expect(rollback(running, older, trial)).toEqual([
      "bootc_bootc-a-1.conf bootc-bootc-0",
      "bootc_fedora-b-1+2-1.conf bootc-bootc-1",
    ]);
  });

  test("nobody else gets the id of the entry on trial", () => {
    const other = entry("a", "bootc_bootc-x-0", { version: "x", position: 1 });
    const running = entry("b", "bootc_bootc-x-1", { version: "x", counter: "+2-1" });
    const from = bootCounted(world(running, other), "bootc_bootc-x-1", 2, 1);
    expect(rollback(from, other, running)).toEqual([
      "bootc_bootc-x.0-1.conf bootc-bootc-0",
      "bootc_bootc-x-1+2-1.conf bootc-bootc-1",
    ]);
  });

  test("entries that are in order already keep their names; other arguments are tried again", () => {
    const options = `composefs=${idOf("b")} quiet`;
    const blessed = entry("b", "bootc_fedora-b-1");
    const items = [kept(blessed, { options, recount: true }), kept(older)];
    const [first, second] = planMenu(world(blessed, older), { names: "image", items });
    expect(first?.fileName).toBe("bootc_fedora-b-1+3.conf");
    expect(first?.text).toBe(blessed.text.replace(/^options .*$/m, `options ${options}`));
    expect(second).toEqual({ fileName: older.fileName, text: older.text });
  });

  test("what goes is just left out", () => {
    expect(planMenu(world(good, failed), { names: "image", items: [kept(good)] })).toEqual([
      { fileName: good.fileName, text: good.text },
    ]);
  });

  test("another order renames", () => {
    const blessed = entry("b", "bootc_fedora-b-1");
    const items = [kept(older), kept(blessed)];
    expect(show(planMenu(world(blessed, older), { names: "image", items }))).toEqual([
      "bootc_fedora-a-1.conf bootc-fedora-0",
      "bootc_fedora-b-0.conf bootc-fedora-1",
    ]);
  });
});

describe("GRUB, which sorts by file name", () => {
  const layout = {
    ...SYSTEMD_LAYOUT,
    loader: "grub",
    kernelParent: "",
    linuxPrefix: "/boot",
  } as const;
  const grub = (...live: World["live"]): World => ({
    ...world(...live),
    layout: { ...layout, counting: "grubenv" },
  });
  const of = (os: string, version: string) =>
    new Map([
      ["ID", os],
      ["VERSION_ID", version],
    ]);
  const names = (menu: ReturnType<typeof planMenu>) => menu.map(({ fileName }) => fileName);
  const booted = entry("a", "bootc_fedora-44-1", { version: "44" });

  test.each([
    ["a higher version", of("fedora", "45"), ["bootc_fedora-45-1.conf", "bootc_fedora-44-0.conf"]],
    ["the same version", of("fedora", "44"), ["bootc_fedora-44-1.conf", "bootc_fedora-44-0.conf"]],
    ["a lower version", of("fedora", "43"), ["bootc_fedora-43-1.conf", "bootc-98.44-0.conf"]],
    ["more digits", of("fedora", "9"), ["bootc_fedora-9-1.conf", "bootc-98.44-0.conf"]],
    ["another system", of("debian", "13"), ["bootc_debian-13-1.conf", "bootc-98.44-0.conf"]],
  ])(
    "staging %s: the new one is first, and nothing is counted by name",
    (_, osRelease, expected) => {
      const items = [fresh("b", osRelease), kept(booted)];
      const menu = planMenu(grub(booted), { names: "image", items });
      expect(names(menu)).toEqual(expected);
      expect(menu[0]!.text).toContain(`linux /boot/bootc_composefs-${idOf("b")}/vmlinuz\n`);
      const shown = sortEntries(
        menu.map(({ fileName, text }) => makeEntry(fileName, text)),
        "grub",
      );
      expect(shown.map(({ fileName }) => fileName)).toEqual(expected);
    },
  );

  test("rolling back to an older version, and forward again", () => {
    const old = entry("b", "bootc_fedora-43-0", { version: "43" });
    const back = planMenu(grub(booted, old), {
      names: "rollback",
      items: [kept(old), kept(booted)],
    });
    expect(names(back)).toEqual(["bootc_bootc-43-1.conf", "bootc-98.44-0.conf"]);
    const live = sortEntries(
      back.map(({ fileName, text }) => makeEntry(fileName, text)),
      "grub",
    );
    expect(live.map((each) => each.deploymentId)).toEqual([idOf("b"), idOf("a")]);
    const again = planMenu(grub(...live), {
      names: "rollback",
      items: [...live].reverse().map((each) => kept(each)),
    });
    expect(names(again)).toEqual(["bootc_bootc-44-1.conf", "bootc_bootc-43-0.conf"]);
  });

  test("what is in order already keeps its names", () => {
    const old = entry("b", "bootc_fedora-43-0", { version: "43" });
    const items = [kept(booted, { options: "x composefs=y" }), kept(old)];
    expect(names(planMenu(grub(booted, old), { names: "image", items }))).toEqual([
      "bootc_fedora-44-1.conf",
      "bootc_fedora-43-0.conf",
    ]);
  });
});

test("an entry the disk does not give stops a new menu, which would be without it", () => {
  const booted = entry("a", "bootc_fedora-a-1");
  const broken = { fileName: "x.conf", bytes: null, mentions: [], isOurs: true, problem: "EIO" };
  const items: MenuItem[] = [fresh("b"), { kind: "kept", entry: booted }];
  const plan = (changes: object) =>
    planMenu(
      { ...world(booted), brokenLive: [{ ...broken, ...changes }] },
      { names: "image", items },
    );
  expect(plan({})).toHaveLength(2);
  expect(() => plan({ isUnreadable: true })).toThrow(
    'The boot menu is not changed: "x.conf" cannot be read and would be lost (EIO)',
  );
});
