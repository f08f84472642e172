// Kernel arguments of a machine: changed by hand and by programs, carried from image to image, and never in
// another entry than the one that boots next. On a machine in a directory, then with the built program.

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { applyKargs } from "../../updater/deploy/kargs.ts";
import { type KargsEdits, parseEdits } from "../../updater/deploy/kargs-edit.ts";
import { planKargs } from "../../updater/deploy/kargs-plan.ts";
import { type SourcedOptions, setSourceOptions } from "../../updater/deploy/kargs-source.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import { type ProgramOutcome, runOnHost } from "../support/program-host.ts";
import { type ScratchImage, writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch } from "../support/scratch-update.ts";

const NONE: KargsEdits = {
  delete: [],
  deleteIfPresent: [],
  replace: [],
  append: [],
  appendIfMissing: [],
};

describe("a machine in a directory", () => {
  let machine: ScratchMachine;
  let imagePath: string;
  beforeEach(() => {
    machine = new ScratchMachine();
    imagePath = join(machine.directory, "os.oci");
  });
  afterEach(() => machine[Symbol.dispose]());

  const image = (version: string, kargs: readonly string[] | null, more?: Partial<ScratchImage>) =>
    writeScratchImage(imagePath, {
      version,
      ...(kargs !== null && { kargs: `kargs = ${JSON.stringify(kargs)}\n` }),
      ...more,
    });

  async function update(running: RunningMachine, changes: Partial<UpdateRequest> = {}) {
    await stageScratch(running, imagePath, changes);
  }

  function change(running: RunningMachine, edit: (current: SourcedOptions) => SourcedOptions) {
    const world = running.world();
    const plan = planKargs(world, edit);
    applyKargs(running, plan, world.stagedFile);
    return plan;
  }

  const kargs = (edits: Partial<KargsEdits>) => {
    const line = parseEdits({ ...NONE, ...edits });
    return ({ options, extra }: SourcedOptions) => ({ options: line(options), extra });
  };

  /** Of the entries, in menu order: the image's version, and its arguments but those every entry has. */
  function lines(which: "live" | "staged"): string[] {
    using running = machine.boot();
    const { live, staged } = running.world();
    return (which === "live" ? live : (staged ?? [])).map(({ entry }) => {
      const options = entry.options
        .replace(/composefs=\S+/, "|")
        .replace(/ panic=10 systemd\.crash_action=reboot rd\.shell=0 rd\.emergency=reboot/, "");
      return `${entry.version}: ${options}`;
    });
  }

  test("what the machine has stays from image to image, what images have goes and comes", async () => {
    image("1", ["image=1 old", 'quoted="a b"']);
    await installScratch(machine, imagePath, { kargs: ["install=yes"] });
    {
      using running = machine.boot();
      change(running, kargs({ append: ['local="x y"'], delete: ["old"] }));
      image("2", ["image=2", "old", 'quoted="a c"']);
      await update(running);
      finalizeStaged(running, running.world());
    }
    const first = '1: root=UUID=1234 rw install=yes | image=1 quoted="a b" local="x y"';
    expect(lines("live")).toEqual([
      '2: root=UUID=1234 rw install=yes | local="x y" image=2 quoted="a c"',
      first,
    ]);
    {
      using running = machine.boot();
      image("3", null);
      await update(running);
      finalizeStaged(running, running.world());
    }
    expect(lines("live")[0]).toBe('3: root=UUID=1234 rw install=yes | local="x y"');
    {
      using running = machine.boot();
      applyRollback(running, planRollback(running.world()));
    }
    expect(lines("live")[0]).toMatch(/^2: .* local="x y" image=2 quoted="a c"$/);
  });

  test("architectures, and errors that name file and key", async () => {
    image("1", null, { kargs: 'kargs = ["other"]\nmatch-architectures = ["s390x"]\n' });
    await installScratch(machine, imagePath, { kargs: [] });
    expect(lines("live")).toEqual(["1: root=UUID=1234 rw |"]);
    const cases = [
      ['kargs = ["a', /"\/usr\/lib\/bootc\/kargs\.d\/10\.toml": .* row 1/],
      ["kargs = [1]", /kargs\.d\/10\.toml": "kargs" must be a list of strings/],
      ["karg = []", /kargs\.d\/10\.toml": unknown key "karg"/],
      [
        "kargs = ['a=\"b']",
        /kargs\.d\/10\.toml": "kargs": "a="b" cannot be written .* close its quotes/,
      ],
      ['kargs = []\nmatch-architectures = "x"', /"match-architectures" must be a list/],
    ] as const;
    using running = machine.boot();
    for (const [index, [text, message]] of cases.entries()) {
      image(`1.${index}`, null, { kargs: text });
      await expect(update(running)).rejects.toThrow(message);
    }
    expect(readdirSync(join(machine.esp, "loader"))).toEqual(["entries"]);
  });

  test("install: --karg and --karg-delete last", async () => {
    image("1", ["console=tty0 console=ttyS0", "quiet"]);
    await installScratch(machine, imagePath, {
      kargs: ["a=1", "quiet"],
      kargDeletes: ["console=tty0", "rw"],
    });
    expect(lines("live")).toEqual(["1: root=UUID=1234 a=1 quiet | console=ttyS0"]);
    using running = machine.boot();
    // The image drops "quiet", which the machine wants, too.
    image("2", ["console=tty0 console=ttyS0"]);
    await update(running);
    expect(lines("staged")[0]).toBe("2: root=UUID=1234 a=1 quiet | console=ttyS0");
  });

  test("a staged deployment gets the change, and so does the one that replaces it", async () => {
    image("1", ["image=1"]);
    await installScratch(machine, imagePath, { kargs: [] });
    using running = machine.boot();
    image("2", ["image=2"]);
    await update(running);
    const plan = change(running, kargs({ append: ["new=1"] }));
    expect(plan.slot).toBe("staged");
    change(running, (current) => setSourceOptions(current, "tuned", "t=1"));
    expect(running.world().stagedFile?.locked).toBe(false);
    image("3", ["image=3"]);
    await update(running);
    finalizeStaged(running, running.world());
    expect(lines("live")).toEqual([
      "3: root=UUID=1234 rw | new=1 t=1 image=3",
      "1: root=UUID=1234 rw | image=1",
    ]);
    const [newest] = running.world().live;
    expect(newest?.entry.extra).toContainEqual(["x-options-source-tuned", "t=1"]);
  });

  test("a download stays one, and follows", async () => {
    image("1", null);
    await installScratch(machine, imagePath, { kargs: [] });
    using running = machine.boot();
    image("2", null);
    await update(running, { downloadOnly: true });
    const names = running.world().staged?.map(({ fileName }) => fileName);
    const plan = change(running, kargs({ append: ["new=1"] }));
    expect(plan.slot).toBe("booted");
    const world = running.world();
    expect(world.stagedFile).toMatchObject({ locked: true });
    expect(world.staged?.map(({ fileName }) => fileName)).toEqual(names);
    expect(world.live[0]?.entry.options).toContain(" new=1");
    expect(world.staged?.map(({ entry }) => entry.options.includes(" new=1"))).toEqual([
      true,
      true,
    ]);
    expect(world.problems).toEqual([]);
  });

  test("with something to fall back to, new arguments are tried anew, and only where they are", async () => {
    image("1", null);
    await installScratch(machine, imagePath, { kargs: [] });
    {
      using running = machine.boot();
      image("2", null);
      await update(running);
      finalizeStaged(running, running.world());
    }
    const entries = join(machine.esp, "loader/entries");
    // As the one who judges a start does when it was good.
    cpSync(join(entries, "bootc_fedora-2-1+3.conf"), join(entries, "bootc_fedora-2-1.conf"));
    rmSync(join(entries, "bootc_fedora-2-1+3.conf"));
    const before = readFileSync(join(entries, "bootc_fedora-1-0.conf"), "utf8");
    using running = machine.boot();
    expect(change(running, kargs({ append: ["bad=1"] })).change).toMatchObject({ isCounted: true });
    expect(readdirSync(entries).sort()).toEqual([
      "bootc_fedora-1-0.conf",
      "bootc_fedora-2-1+3.conf",
    ]);
    expect(readFileSync(join(entries, "bootc_fedora-1-0.conf"), "utf8")).toBe(before);
    expect(lines("live")[0]).toBe("2: root=UUID=1234 rw | bad=1");
    expect(change(running, kargs({ appendIfMissing: ["bad=1"] })).change.kind).toBe("nothing");
  });
});

describe("the program", () => {
  let scratch: string;
  let id: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "kargs-"));
    const disk = join(scratch, "disk");
    mkdirSync(join(disk, "boot/loader/entries"), { recursive: true });
    ({ id } = makeComposefsDisk(disk, SKELETON));
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  const OLD = "e".repeat(128);
  const live = () => join(scratch, "disk/boot/loader/entries");
  const entry = (digest: string, version: string, key: number, options: string, extra = "") =>
    `title T ${version}\nversion ${version}\nlinux /boot/bootc_composefs-${digest}/vmlinuz\n` +
    `initrd /boot/bootc_composefs-${digest}/initrd\noptions ${options} composefs=?${digest}\n` +
    `sort-key bootc-test-${key}\n${extra}`;

  beforeEach(() => {
    rmSync(live(), { recursive: true });
    mkdirSync(live());
    writeFileSync(join(live(), "bootc_test-2-1.conf"), entry(id, "2", 0, 'root=UUID=1 rw d="x y"'));
    writeFileSync(join(live(), "bootc_test-1-0.conf"), entry(OLD, "1", 1, "root=UUID=1 rw"));
  });

  function run(args: string): ProgramOutcome {
    return runOnHost(scratch, args, {
      root: `composefs:${id}`,
      cmdline: `quiet composefs=?${id}`,
      prepare: 'mount --bind "$SCRATCH/disk" /sysroot',
    });
  }
  const optionsOf = (fileName: string) =>
    /^options (.*) composefs=\S+(.*)$/m
      .exec(readFileSync(join(live(), fileName), "utf8"))
      ?.slice(1)
      .join(" |");
  const NEW = "bootc_test-2-1.conf";

  test("shows them, for people and for programs", () => {
    expect(run("kargs")).toMatchObject({
      code: 0,
      output: `root=UUID=1 rw d="x y" composefs=?${id}`,
    });
    const { code, output } = run("kargs --format json");
    expect(code).toBe(0);
    expect(JSON.parse(output)).toEqual({
      deployment: id,
      slot: "booted",
      sealed: false,
      options: `root=UUID=1 rw d="x y" composefs=?${id}`,
      arguments: [
        { key: "root", value: "UUID=1" },
        { key: "rw", value: null },
        { key: "d", value: "x y" },
        { key: "composefs", value: `?${id}` },
      ],
      sources: {},
      running: `quiet composefs=?${id}`,
    });
  });

  test("changes them, several at once, and only where it is to boot", () => {
    const args = `kargs --append a=1 --append 'b="1 2" c' --delete rw --replace d=z --append-if-missing a=1`;
    const dry = run(`${args} --dry-run`);
    expect(JSON.parse(dry.output)).toMatchObject({ kind: "kargs", id, slot: "booted" });
    expect(dry.after).toBe(dry.before);
    const { code, output } = run(args);
    expect(output).toMatch(/^Kernel arguments of the booted deployment are changed/);
    expect(code).toBe(0);
    expect(optionsOf(NEW)).toBe('root=UUID=1 d=z | a=1 b="1 2" c');
    expect(readFileSync(join(live(), "bootc_test-1-0.conf"), "utf8")).toBe(
      entry(OLD, "1", 1, "root=UUID=1 rw"),
    );
    expect(readdirSync(join(live(), "..")).sort()).toEqual(["entries"]);
    expect(run("kargs --delete-if-present rw").output).toBe("No changes in the kernel arguments");
  });

  test.each([
    ["--delete nope", 1, /no argument "nope"; nothing with the key "nope" is there/],
    ["--replace root=LABEL=x", 1, /if "LABEL=x" is the new value, put it in quotes/],
    ["--append 'a=\"b'", 2, /--append: "a="b" cannot be written .* close its quotes/],
    [`--append composefs=${OLD}`, 2, /which deployment starts/],
    ["--append \"$(printf 'a\\nb')\"", 2, /leave out control characters/],
    ["--append ''", 2, /--append needs an argument/],
    ["--append", 2, /argument missing/],
    ["--format yaml", 2, /Allowed choices are humanreadable, json/],
    ["extra", 2, /too many arguments/],
  ])("refuses %s", (args, code, message) => {
    const outcome = run(`kargs ${args}`);
    expect(outcome.output).toMatch(message);
    expect(outcome.output).toMatch(/^error: [^\n]*$/);
    expect(outcome.code).toBe(code);
    expect(outcome.after).toBe(outcome.before);
  });

  test("a sealed one: shown, refused with the way out", () => {
    const uki = join(scratch, "disk/boot/EFI");
    writeFileSync(
      join(live(), NEW),
      `title T\nversion 2\nefi /EFI/Linux/bootc/bootc_composefs-${id}.efi\nsort-key bootc-test-0\n`,
    );
    const outcome = run("kargs --append x");
    expect(outcome.output).toMatch(
      /starts a unified kernel, whose arguments are sealed in it: put them into .*kargs\.d/,
    );
    expect(outcome.code).toBe(1);
    rmSync(uki, { recursive: true, force: true });
  });

  describe("loader-entries set-options-for-source", () => {
    const set = (args: string) => run(`loader-entries set-options-for-source ${args}`);
    const source = () =>
      /^(x-options-source-.*)$/m.exec(readFileSync(join(live(), NEW), "utf8"))?.[1];

    test("sets, replaces, empties, forgets; the same again changes nothing", () => {
      expect(set("--source tuned --options 'isolcpus=1-2 nohz_full=1-2'").code).toBe(0);
      expect(optionsOf(NEW)).toBe('root=UUID=1 rw d="x y" | isolcpus=1-2 nohz_full=1-2');
      expect(source()).toBe("x-options-source-tuned isolcpus=1-2 nohz_full=1-2");
      const again = set("--source tuned --options 'isolcpus=1-2 nohz_full=1-2'");
      expect(again.output).toBe("No changes in the kernel arguments");
      expect(again.after).toBe(again.before);
      expect(set("--source tuned --options isolcpus=3").code).toBe(0);
      expect(optionsOf(NEW)).toBe('root=UUID=1 rw d="x y" | isolcpus=3');
      expect(set("--source other --options 'd=\"q r\"'").code).toBe(0);
      expect(JSON.parse(run("kargs --format json").output).sources).toEqual({
        tuned: "isolcpus=3",
        other: 'd="q r"',
      });
      expect(set("--source tuned --options ''").code).toBe(0);
      expect(source()).toMatch(/^x-options-source-(tuned|other d="q r")$/);
      expect(set("--source tuned").code).toBe(0);
      expect(set("--source other").code).toBe(0);
      expect(readFileSync(join(live(), NEW), "utf8")).toBe(
        entry(id, "2", 0, 'root=UUID=1 rw d="x y"'),
      );
      expect(set("--source never").output).toBe("No changes in the kernel arguments");
    });

    test.each([
      ["--source 'a b' --options x", /cannot be the name of a source/],
      ["--source '' --options x", /cannot be the name of a source/],
      ["--options x", /required option '--source <name>'/],
      ["--source bootc --options x", /bootc's own/],
      ["--source a --options 'x=\"'", /close its quotes/],
      [`--source a --options composefs=${OLD}`, /which deployment starts/],
    ])("refuses %s", (args, message) => {
      const outcome = set(args);
      expect(outcome.output).toMatch(message);
      expect(outcome.code).toBe(2);
      expect(outcome.after).toBe(outcome.before);
    });
  });
});
