// `bootc etc`, `config-diff`, `dir-diff`, `pin`, `delete-deployment` and `edit` as whole programs, on a
// machine of real deployments: A is the rollback, B runs, C is staged. Right input, wrong input, dry runs.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeDirectory, readBack } from "../support/etc-directories.ts";
import { type ProgramOutcome, runOnHost } from "../support/program-host.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch } from "../support/scratch-update.ts";

/** The disk of the machine, with its entries where GRUB has them, and /run. */
let model: string;
let scratch: string;
let ids: { a: string; b: string; c: string };

beforeAll(async () => {
  model = mkdtempSync(join(tmpdir(), "etc-verbs-model-"));
  using machine = new ScratchMachine();
  const imagePath = join(machine.directory, "os.oci");
  const update = async (version: string, etc: Record<string, string>) => {
    writeScratchImage(imagePath, { version, etc });
    using running = machine.boot();
    const id = await stageScratch(running, imagePath);
    if (version === "2") finalizeStaged(running, running.world());
    return id;
  };
  writeScratchImage(imagePath, { version: "1", etc: { f: "1" } });
  const { id } = await installScratch(machine, imagePath);
  const b = await update("2", { f: "2", g: "2", gone: "2" });
  const c = await update("3", { f: "3", g: "2", gone: "2" });
  ids = { a: id, b, c };
  execFileSync("cp", ["-a", machine.disk, join(model, "disk")]);
  const boot = join(model, "disk/boot");
  mkdirSync(boot, { recursive: true });
  execFileSync("cp", ["-a", join(machine.esp, "loader"), boot]);
  for (const name of readdirSync(join(machine.esp, "EFI/Linux"))) {
    execFileSync("cp", ["-a", join(machine.esp, "EFI/Linux", name), boot]);
  }
  for (const menu of ["entries", "entries.staged"]) {
    for (const name of readdirSync(join(boot, "loader", menu))) {
      const path = join(boot, "loader", menu, name);
      // Somebody blessed them, and GRUB counts elsewhere.
      const text = readFileSync(path, "utf8").replaceAll("/EFI/Linux/", "/boot/");
      unlinkSync(path);
      writeFileSync(path.replace(/\+\d+(-\d+)?\.conf$/, ".conf"), text);
    }
  }
  execFileSync("cp", ["-a", join(machine.run, "composefs"), join(model, "run")]);
});
afterAll(() => rmSync(model, { recursive: true, force: true }));

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "etc-verbs-"));
  execFileSync("cp", ["-a", join(model, "disk"), join(scratch, "disk")]);
  execFileSync("cp", ["-a", join(model, "run"), join(scratch, "run")]);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const etc = () => join(scratch, "disk/state/deploy", ids.b, "etc");

function run(args: string, prepare = ""): ProgramOutcome {
  return runOnHost(scratch, args, {
    root: `composefs:${ids.b}`,
    cmdline: `quiet composefs=?${ids.b}`,
    prepare: `mount --bind "$SCRATCH/disk" /sysroot
      mkdir -p /run/composefs; mount --bind "$SCRATCH/run" /run/composefs
      mount --bind "/sysroot/state/deploy/${ids.b}/etc" /etc
      ${prepare}`,
  });
}

function fails(args: string, message: string | RegExp, code = 1, prepare = ""): void {
  const { output, ...result } = run(args, prepare);
  expect(output).toMatch(message);
  expect(output.split("\n").filter((line) => line.startsWith("error: "))).toHaveLength(1);
  expect(result.code).toBe(code);
  expect(result.after).toBe(result.before);
}

function changeEtc(): void {
  writeFileSync(join(etc(), "f"), "local");
  unlinkSync(join(etc(), "gone"));
  makeDirectory(join(etc(), "mine"), { x: "m" });
}

describe("bootc etc", () => {
  test("status: nothing, then three kinds of changes, for people and programs", () => {
    expect(run("etc status")).toMatchObject({ code: 0, output: "No local changes" });
    changeEtc();
    expect(run("etc status")).toMatchObject({
      code: 0,
      output: [
        "modified  /etc/f  (content; stays, though the staged image changed it)",
        "removed   /etc/gone",
        "added     /etc/mine",
        "added     /etc/mine/x",
      ].join("\n"),
    });
    const { output } = run("etc status --format json /etc/f /etc/mine/../gone");
    const status = JSON.parse(output);
    expect(status).toMatchObject({
      kind: "EtcStatus",
      booted: ids.b,
      staged: ids.c,
      ruleProblem: null,
      changes: [
        {
          ...{ path: "/etc/f", change: "modified", differs: ["content"], outcome: "local" },
          ...{ image: { type: "file", size: 1 }, local: { size: 5 }, staged: { size: 1 } },
        },
        { path: "/etc/gone", change: "removed", local: null, staged: { type: "file" } },
      ],
    });
    expect(run("etc status /etc/f").output).toMatch(
      /^modified {2}\/etc\/f .*\n {4}image: {2}file 0644 0:0 1 bytes .*\n {4}local: .* 5 bytes .*\n {4}staged: /,
    );
  });

  test("reset: a dry run, then the image's version is back, once", () => {
    changeEtc();
    const dry = run("etc reset --dry-run /etc/f /etc/gone");
    expect(dry.after).toBe(dry.before);
    expect(JSON.parse(dry.output)).toEqual({
      kind: "etc-reset",
      steps: [
        { kind: "write", path: "/etc/f", type: "file", replaces: "same" },
        { kind: "write", path: "/etc/gone", type: "file", replaces: "nothing" },
      ],
    });
    expect(run("etc reset /etc/f /etc/gone")).toMatchObject({
      code: 0,
      output: "Restored /etc/f\nRestored /etc/gone",
    });
    expect(readBack(etc())).toEqual({ f: "2", g: "2", gone: "2", "mine/": "", "mine/x": "m" });
    expect(run("etc reset /etc/f").output).toBe("Nothing to reset: all is as in the image");
    expect(run("etc reset --remove-added /etc/mine")).toMatchObject({
      output: "Removed /etc/mine",
    });
    expect(run("etc status").output).toBe("No local changes");
    writeFileSync(join(etc(), "a\nb"), "");
    expect(run("etc reset --remove-added \"$(printf '/etc/a\\nb')\"").output).toBe(
      'Removed "/etc/a\\nb"',
    );
  });

  test("wrong input changes nothing", () => {
    changeEtc();
    fails("etc reset f", 'error: "f" is no absolute path', 2);
    fails("etc reset /usr/lib/os-release", 'is not below "/etc"', 2);
    fails("etc reset /etc/../usr", 'is not below "/etc"', 2);
    fails("etc reset /etc", 'All of "/etc" is not reset at once', 2);
    fails("etc reset", "missing required argument", 2);
    fails("etc reset /etc/f /etc/nowhere", '"/etc/nowhere": it is neither in the image');
    fails("etc reset /etc/mine", 'the image does not have it; "--remove-added"');
    fails("etc status /etc/nowhere", '"/etc/nowhere" is neither in the image nor on this machine');
    fails("etc status --format xml", "Allowed choices are humanreadable, json", 2);
  });

  test("a transient /etc is reset, and the note says for how long", () => {
    writeFileSync(join(scratch, "f"), "");
    const overlay = `mkdir /run/e /run/e/upper /run/e/work
      mount -t overlay transient -o "lowerdir=/etc,upperdir=/run/e/upper,workdir=/run/e/work" /etc
      echo local >/etc/f`;
    const { code, output } = run("etc reset /etc/f", overlay);
    expect([code, output]).toEqual([
      0,
      "Restored /etc/f\nnote: this /etc is transient; the next boot has the image's in any case",
    ]);
  });

  test("rules show, broken ones are named with file and line", () => {
    changeEtc();
    makeDirectory(join(etc(), "bootc"), {
      "etc-merge.toml": '[[rule]]\npath = "/etc/f"\naction = "image"\n',
    });
    expect(run("etc status /etc/f").output).toContain(
      "follows the image, rule /etc/bootc/etc-merge.toml:1",
    );
    writeFileSync(join(etc(), "bootc/etc-merge.toml"), '[[rule]]\npaht = "/etc/f"\n');
    const { code, output } = run("etc status");
    expect(code).toBe(0);
    expect(output).toContain('warning: Policy for /etc in "/etc/bootc/etc-merge.toml');
    // Shutdown does not fail for it: it has what was recorded when staging, here nothing.
    expect(run("composefs-finalize-staged")).toMatchObject({ code: 0 });
    const merged = readBack(join(scratch, "disk/state/deploy", ids.c, "etc"));
    expect(merged).toMatchObject({ f: "local", g: "2", "mine/x": "m" });
    expect("gone" in merged).toBe(false);
  });
});

test("finalizing that is killed while another verb holds the lock leaves a note, which goes when it is done", () => {
  const host = (wrapper: string, prepare: string) => ({
    root: `composefs:${ids.b}`,
    cmdline: `quiet composefs=?${ids.b}`,
    wrapper,
    prepare: `mount --bind "$SCRATCH/disk" /sysroot
      mkdir -p /run/composefs; mount --bind "$SCRATCH/run" /run/composefs
      mount --bind "/sysroot/state/deploy/${ids.b}/etc" /etc
      ${prepare}`,
  });
  const note = join(scratch, "disk/state/bootc/finalize-failed.json");
  const held = "mkdir -p /run/bootc; exec 9>/run/bootc/lock; flock 9";
  const verb = "composefs-finalize-staged";
  expect(runOnHost(scratch, `${verb} --dry-run`, host("", "")).code).toBe(0);
  expect(existsSync(note)).toBe(false);
  const killed = runOnHost(scratch, verb, host("timeout -s KILL 5", held));
  expect(killed.code).toBe(137);
  expect(JSON.parse(readFileSync(note, "utf8"))).toMatchObject({ id: ids.c, reason: null });
  // The next start: nothing is staged.
  const next = host("", "rm /run/composefs/staged-deployment");
  const { output } = runOnHost(scratch, "status --format json", next);
  expect(output).toMatch(/was not applied at .* was cut off/);
  execFileSync("cp", ["-a", `${join(model, "run")}/.`, join(scratch, "run")]);
  expect(run(verb)).toMatchObject({ code: 0 });
  expect(existsSync(note)).toBe(false);
});

describe("bootc's own lines", () => {
  test("config-diff", () => {
    expect(run("config-diff")).toMatchObject({ code: 0, output: "" });
    changeEtc();
    expect(run("config-diff").output).toBe(
      'Added "mine"\nAdded "mine/x"\nModified "f"\nRemoved "gone"',
    );
    expect(JSON.parse(run("config-diff --format json").output)).toEqual({
      added: ["mine", "mine/x"],
      modified: ["f"],
      removed: ["gone"],
      dropped: [],
      held: [],
      conflicts: [],
    });
  });

  test("internals dir-diff, and with --merge", () => {
    const at = (name: string) => join(scratch, name);
    makeDirectory(at("p"), { f: "1", g: "1" });
    makeDirectory(at("c"), { f: "local", h: "1" });
    makeDirectory(at("n"), { f: "2", g: "2", k: "2" });
    const lines = 'Added "h"\nModified "f"\nRemoved "g"';
    expect(run(`internals dir-diff p c n`).output).toBe(lines);
    expect(readBack(at("n"))).toEqual({ f: "2", g: "2", k: "2" });
    expect(run(`internals dir-diff p c n --merge`)).toMatchObject({ code: 0, output: lines });
    expect(readBack(at("n"))).toEqual({ f: "local", h: "1", k: "2" });
    expect(readdirSync(scratch).filter((name) => name.includes("partial"))).toEqual([]);
    makeDirectory(at("n2"), { "f/x": "2" });
    expect(run("internals dir-diff p c n2").output).toContain(
      'Unmergable Modified file "f" newly defaults to directory',
    );
    fails("internals dir-diff p c n2 --merge", "Merge conflicts found in etc");
    expect(readBack(at("n2"))).toEqual({ "f/": "", "f/x": "2" });
    fails("internals dir-diff p c nowhere", /nowhere.*No such file/);
  });
});

describe("deployments", () => {
  const entries = (menu = "entries") => {
    const path = join(scratch, "disk/boot/loader", menu);
    return existsSync(path)
      ? readdirSync(path)
          .filter((name) => name.endsWith(".conf"))
          .sort()
      : [];
  };
  const states = () => readdirSync(join(scratch, "disk/state/deploy")).sort();

  test("pin, unpin, twice and with wrong names", () => {
    const pin = () => existsSync(join(scratch, "disk/state/deploy", ids.a, `${ids.a}.pinned`));
    expect(JSON.parse(run("pin --dry-run rollback").output)).toEqual({
      kind: "pin",
      deployments: [{ id: ids.a, pinned: true, changes: true }],
    });
    expect(pin()).toBe(false);
    expect(run(`pin rollback ${ids.a.slice(0, 9)}`).output).toBe(
      `Deployment ${ids.a.slice(0, 12)} is pinned`,
    );
    expect(pin()).toBe(true);
    const { status } = JSON.parse(run("status --format json").output);
    expect([status.rollback.pinned, status.booted.pinned]).toEqual([true, false]);
    expect(run("pin rollback").output).toContain("nothing to do");
    fails(`delete-deployment ${ids.a}`, /is pinned; "bootc pin --unpin/);
    fails("pin zz", "Deployment zz not found");
    fails("pin", "missing required argument", 2);
    run("pin --unpin rollback");
    expect(pin()).toBe(false);
  });

  test("delete-deployment: the rollback goes with all it had, what is staged stays", () => {
    const dry = run("delete-deployment --dry-run rollback");
    expect(dry.after).toBe(dry.before);
    expect(JSON.parse(dry.output)).toMatchObject({ kind: "delete", id: ids.a, slot: "rollback" });
    const kept = entries("entries.staged");
    expect(run(`delete-deployment ${ids.a.slice(0, 20)}`)).toMatchObject({
      code: 0,
      output: `Deleted rollback deployment ${ids.a}`,
    });
    expect(entries()).toHaveLength(1);
    expect(entries("entries.staged")).toEqual(kept);
    expect(states()).toEqual([ids.b, ids.c].sort());
    expect(existsSync(join(scratch, "disk/composefs/images", ids.a))).toBe(false);
    expect(existsSync(join(scratch, "disk/boot", `bootc_composefs-${ids.a}`))).toBe(false);
    // GRUB's script goes with the entries.
    const script = readFileSync(join(scratch, "disk/boot/loader/entries/bootc-menu.cfg"), "utf8");
    expect([script.includes(ids.b), script.includes(ids.a)]).toEqual([true, false]);
    fails("delete-deployment rollback", "There is no rollback deployment");
  });

  test("delete-deployment: the staged one, also with an immutable file in it", () => {
    const conf = join(scratch, "disk/state/deploy", ids.c, "etc/f");
    execFileSync("chattr", ["+i", conf]);
    try {
      expect(run("delete-deployment staged")).toMatchObject({ code: 0 });
    } finally {
      if (existsSync(conf)) execFileSync("chattr", ["-i", conf]);
    }
    expect(entries("entries.staged")).toEqual([]);
    expect(entries()).toHaveLength(2);
    expect(states()).toEqual([ids.a, ids.b].sort());
    expect(existsSync(join(scratch, "run/staged-deployment"))).toBe(false);
  });

  test("delete-deployment: a queued rollback is taken back", () => {
    expect(run("rollback").code).toBe(0);
    expect(run("delete-deployment rollback").output).toBe(
      `notice: Reverting queued rollback state\nDeleted rollback deployment ${ids.a}`,
    );
    expect(JSON.parse(run("status --format json").output).status).toMatchObject({
      rollback: null,
      rollbackQueued: false,
    });
  });

  test("delete-deployment: what it refuses", () => {
    fails("delete-deployment booted", "Cannot delete currently booted deployment");
    fails(`delete-deployment ${ids.b}`, "Cannot delete currently booted deployment");
    fails("delete-deployment ffffffff", "Deployment ffffffff not found");
    fails("delete-deployment", "missing required argument", 2);
  });
});

describe("bootc edit", () => {
  const write = (name: string, text: string) => writeFileSync(join(scratch, name), text);
  const host = () => JSON.parse(run("status --format json").output);
  const NOTHING = "Edit cancelled, no changes made.";

  test("unchanged, from a file and from an editor", () => {
    write("host.json", JSON.stringify(host()));
    expect(run("edit -f host.json")).toMatchObject({ code: 0, output: NOTHING });
    expect(run("edit", "export EDITOR=true")).toMatchObject({ code: 0, output: NOTHING });
  });

  test("the boot order, there and back", () => {
    const editor = "export EDITOR=\"sed -i 's/bootOrder: default/bootOrder: rollback/'\"";
    const dry = run("edit --dry-run", editor);
    expect(dry.after).toBe(dry.before);
    expect(JSON.parse(dry.output)).toMatchObject({ kind: "rollback", id: ids.a });
    expect(run("edit", editor)).toMatchObject({
      code: 0,
      output: "Next boot: rollback deployment",
    });
    expect(host().spec.bootOrder).toBe("rollback");
    write(
      "back.yaml",
      JSON.stringify({ ...host(), spec: { ...host().spec, bootOrder: "default" } }),
    );
    expect(run("edit -f back.yaml").output).toContain("Next boot: current deployment");
    expect(host().spec.bootOrder).toBe("default");
  });

  test("the image", () => {
    const etcFiles = { f: "4" };
    writeScratchImage(join(scratch, "other.oci"), { version: "4", etc: etcFiles });
    const image = { transport: "oci", image: join(scratch, "other.oci") };
    const wanted = { ...host(), spec: { image, bootOrder: "default" } };
    write("host.yaml", JSON.stringify(wanted));
    const { code, output } = run("edit --quiet -f host.yaml");
    expect([code, output]).toEqual([0, expect.stringContaining("Queued for next boot: ")]);
    expect(host().status.staged.image.image).toEqual(image);
  });

  test("wrong documents are refused, and say why", () => {
    const good = host();
    const withSpec = (spec: object) => JSON.stringify({ ...good, spec: { ...good.spec, ...spec } });
    write("both", withSpec({ image: { transport: "oci", image: "/x" }, bootOrder: "rollback" }));
    write("none", withSpec({ image: null }));
    write("order", withSpec({ bootOrder: "sideways" }));
    write("transport", withSpec({ image: { transport: "carrier-pigeon", image: "x" } }));
    write("kind", JSON.stringify({ ...good, kind: "Pod" }));
    write("broken", "spec:\n  image: [\n");
    write("text", "hello");
    fails("edit -f both", "Invalid state transition: rollback and image change");
    fails("edit -f none", "Missing image in specification");
    fails("edit -f order", 'Cannot use "order": This is no host document. Its "spec.bootOrder"');
    fails("edit -f transport", 'Unknown transport "carrier-pigeon"');
    fails("edit -f kind", 'It is a "Pod" of');
    fails("edit -f broken", /"broken:\d+" is not YAML/);
    fails("edit -f text", "This is no host document");
    fails("edit -f nowhere", 'There is no file "nowhere"');
    fails("edit", 'The editor "false" failed', 1, "export EDITOR=false");
    fails("edit", /your text is kept.*bootc edit -f/, 1, "export EDITOR=\"sh -c 'echo x >\\$0'\"");
  });
});

test("a failed start is judged where nothing can be written any more", () => {
  const outcome = runOnHost(scratch, "internals assess-boot failed", {
    root: `composefs:${ids.b}`,
    cmdline: `quiet composefs=?${ids.b}`,
    prepare: 'cp -a "$SCRATCH/disk/." /sysroot',
  });
  const lines = outcome.output.split("\n");
  expect(lines[0]).toMatch(/^Nothing can be changed here: "\/sysroot" is not a mount point/);
  expect(lines.slice(1)).toEqual(["This start is not on trial"]);
  expect(outcome.code).toBe(0);
});
