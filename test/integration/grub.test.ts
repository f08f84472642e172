// The life of a machine that GRUB starts: an update to an older version, failing starts, rollback, collection;
// and one on which GRUB starts unified kernels.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeParameter, replaceParameter } from "../../shared/format/kargs/cmdline.ts";
import { borrowBootDirectory, makeEspLayout } from "../../updater/boot/boot-layout.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { applyDelete } from "../../updater/deploy/delete.ts";
import { planDelete } from "../../updater/deploy/delete-plan.ts";
import { planFailure, spendStart } from "../../updater/deploy/failed-start.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { inspectHost, repairHost } from "../../updater/deploy/host-repair.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { applyKargs } from "../../updater/deploy/kargs.ts";
import { planKargs } from "../../updater/deploy/kargs-plan.ts";
import { applyPin } from "../../updater/deploy/pin.ts";
import { planPin } from "../../updater/deploy/pin-plan.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { observeWorld } from "../../updater/deploy/world.ts";
import {
  countStart,
  EMPTY_ENVIRONMENT,
  grubPaths,
  moveToGrub,
  startGrub,
} from "../support/grub-machine.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { assess, type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch, updateScratch } from "../support/scratch-update.ts";
import { buildUki } from "../support/uki-builder.ts";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

async function install(version: string): Promise<string> {
  writeScratchImage(imagePath, { version });
  const { id } = await installScratch(machine, imagePath);
  moveToGrub(machine);
  return id;
}

async function stage(running: RunningMachine, version: string): Promise<string> {
  writeScratchImage(imagePath, { version });
  return await stageScratch(running, imagePath);
}

const isTrialNoted = () => existsSync(join(machine.disk, "state/bootc/boot-trial.json"));
const list = (path: string) => (existsSync(path) ? readdirSync(path).sort() : null);
const live = () => list(grubPaths(machine).entries);
const menuOrder = () =>
  [...readFileSync(grubPaths(machine).script, "utf8").matchAll(/--id '([^']*)'/g)].map(
    (match) => match[1],
  );
const environment = () => readFileSync(grubPaths(machine).environment, "latin1").replace(/#+$/, "");

test("an update to an older version boots first, is counted and blessed", async () => {
  const a = await install("10");
  let b: string;
  {
    using running = startGrub(machine);
    expect(running.boot.layout).toMatchObject({ loader: "grub", linuxPrefix: "/boot" });
    b = await stage(running, "9");
    expect(list(grubPaths(machine).boot)).toEqual(
      [`bootc_composefs-${a}`, `bootc_composefs-${b}`, "grub", "loader"].sort(),
    );
    expect(list(grubPaths(machine).staged)).toEqual([
      "bootc-98.10-0.conf",
      "bootc-menu.cfg",
      "bootc_fedora-9-1.conf",
    ]);
    finalizeStaged(running, running.world());
  }
  expect(live()).toEqual(["bootc-98.10-0.conf", "bootc-menu.cfg", "bootc_fedora-9-1.conf"]);
  expect(menuOrder()).toEqual(["bootc_fedora-9-1", "bootc-98.10-0"]);
  expect(environment()).toBe(
    "# GRUB Environment Block\nboot_counter=3\nboot_success=0\nbootc_fallback=bootc-98.10-0\n",
  );
  const text = readFileSync(join(grubPaths(machine).entries, "bootc_fedora-9-1.conf"), "utf8");
  expect(text).toContain(`linux /boot/bootc_composefs-${b}/vmlinuz\n`);

  using running = startGrub(machine);
  expect(running.booted.id).toBe(b);
  expect(environment()).toContain("boot_counter=2\n");
  assess(running, true);
  expect(environment()).toBe("# GRUB Environment Block\nboot_success=1\n");
  const state = makeHostState(running.system, running.repo, running.world());
  expect(state).toMatchObject({
    booted: { id: b, bootloader: "grub" },
    rollback: { id: a },
    rollbackQueued: false,
    problems: [],
  });

  const rollback = planRollback(running.world());
  expect(rollback.id).toBe(a);
  applyRollback(running, rollback);
  expect(menuOrder()).toEqual(["bootc_bootc-10-1", "bootc-98.9-0"]);
  expect(countStart(machine)).toBe("bootc_bootc-10-1.conf");
  const cleanup = planCleanup(running.world(), readCleanupScope(running.repo, running.world()));
  expect(cleanup).toMatchObject({ kernels: [], states: [], tags: [] });
});

test("soft reboots into it that fail use up the tries, and the old one takes over", async () => {
  const a = await install("1");
  let b: string;
  {
    using running = startGrub(machine);
    b = await stage(running, "2");
    finalizeStaged(running, running.world());
    for (const left of [2, 1, 0, 0]) {
      const soft = { ...running.world(), booted: { id: b, verityOptional: false } };
      const plan = planFailure(soft, { id: b, at: "2026-01-01T00:00:00.000Z", detail: "x failed" });
      expect(plan).toMatchObject({ kind: "failed", restarts: true, spends: "grubenv" });
      spendStart(running.boot, plan as Extract<typeof plan, { kind: "failed" }>);
      expect(environment()).toContain(`boot_counter=${left}\n`);
    }
  }
  using running = startGrub(machine);
  expect(running.booted.id).toBe(a);
  assess(running, false);
  expect(running.world().failures).toMatchObject([{ id: b }]);
});

test("a deployment that never starts: the old one takes over, and stays first", async () => {
  const a = await install("1");
  let b: string;
  {
    using running = startGrub(machine);
    b = await stage(running, "2");
    finalizeStaged(running, running.world());
  }
  for (let i = 0; i < 2; i += 1) expect(countStart(machine)).toBe("bootc_fedora-2-1.conf");
  {
    // The last try: as systemd-boot's menu shows it, the next start goes back.
    using running = startGrub(machine);
    expect(running.booted.id).toBe(b);
    const state = makeHostState(running.system, running.repo, running.world());
    expect(state).toMatchObject({ booted: { id: b }, rollback: { id: a }, rollbackQueued: true });
    expect(planRollback.bind(null, running.world())).toThrow("by itself");
  }
  {
    using running = startGrub(machine);
    expect(running.booted.id).toBe(a);
    expect(planRollback.bind(null, running.world())).toThrow("did not start");
    // Until somebody looked after it, every further start is the old one, too.
    expect(countStart(machine)).toBe("bootc_fedora-1-0.conf");
    assess(running, false);
    expect(menuOrder()).toEqual(["bootc_bootc-1-1", "bootc-98.2-0"]);
    expect(environment()).toBe("# GRUB Environment Block\nboot_success=1\n");
    expect(running.world().failures).toMatchObject([{ id: b, attempts: 3 }]);
    const state = makeHostState(running.system, running.repo, running.world());
    expect(state).toMatchObject({
      booted: { id: a },
      rollback: null,
      others: [{ id: b }],
      rollbackQueued: false,
    });
  }
  {
    using running = startGrub(machine);
    expect(running.booted.id).toBe(a);
    expect(planRollback.bind(null, running.world())).toThrow("did not start");
    expect(await updateScratch(running, imagePath)).toMatchObject({ kind: "failed-before" });
    await updateScratch(running, imagePath, { retryFailed: true });
    finalizeStaged(running, running.world());
    expect(menuOrder()[0]).toBe("bootc_fedora-2-1");
  }
  using running = startGrub(machine);
  expect(running.booted.id).toBe(b);
  assess(running, true);
  expect(running.world().failures).toEqual([]);
});

test("rolling back and forth during a trial leaves the way back open", async () => {
  const a = await install("1");
  let b: string;
  {
    using running = startGrub(machine);
    b = await stage(running, "2");
    finalizeStaged(running, running.world());
  }
  {
    using running = startGrub(machine);
    for (const id of [a, b]) {
      const plan = planRollback(running.world());
      expect(plan.id).toBe(id);
      applyRollback(running, plan);
      expect(isTrialNoted()).toBe(true);
    }
  }
  const started = [1, 2, 3, 4].map(() => {
    using running = startGrub(machine);
    return running.booted.id;
  });
  expect(started).toEqual([b, b, b, a]);
});

test("other arguments are tried, and blessed", async () => {
  const a = await install("1");
  {
    using running = startGrub(machine);
    await stage(running, "2");
    finalizeStaged(running, running.world());
  }
  {
    using running = startGrub(machine);
    assess(running, true);
    expect(isTrialNoted()).toBe(false);
    const world = running.world();
    const plan = planKargs(world, ({ options, extra }) => ({
      options: replaceParameter(options, makeParameter("debug", "1")),
      extra,
    }));
    applyKargs(running, plan, world.stagedFile);
    expect(environment()).toContain("boot_counter=3\n");
    // What the blessing's unit looks for.
    expect(isTrialNoted()).toBe(true);
  }
  {
    using running = startGrub(machine);
    expect(running.system.cmdline).toContain("debug=1");
    assess(running, true);
  }
  expect(environment()).toBe("# GRUB Environment Block\nboot_success=1\n");
  expect(isTrialNoted()).toBe(false);
  using running = startGrub(machine);
  expect(running.booted.id).not.toBe(a);
});

test("what GRUB falls back to is deleted during a trial: it falls back to the next one", async () => {
  const ids = [await install("1")];
  for (const version of ["2", "3"]) {
    using running = startGrub(machine);
    assess(running, true);
    // Pinned, the oldest one stays behind the others.
    applyPin(running.system, planPin(running.world(), ids[0]!, true));
    ids.push(await stage(running, version));
    finalizeStaged(running, running.world());
  }
  const [oldest, second, third] = ids;
  {
    using running = startGrub(machine);
    const world = running.world();
    expect(world.live.map(({ deploymentId }) => deploymentId)).toEqual([third, second, oldest]);
    applyDelete(running, world, planDelete(world, second!));
  }
  const started = [1, 2, 3].map(() => {
    using running = startGrub(machine);
    return running.booted.id;
  });
  expect(started).toEqual([third, third, oldest]);
});

test("a power cut between the new order and the environment block starts the good one", async () => {
  const a = await install("1");
  {
    using running = startGrub(machine);
    await stage(running, "2");
    finalizeStaged(running, running.world());
  }
  for (let i = 0; i < 3; i += 1) countStart(machine);
  {
    using running = startGrub(machine);
    const before = readFileSync(grubPaths(machine).environment);
    assess(running, false);
    writeFileSync(grubPaths(machine).environment, before);
  }
  {
    using running = startGrub(machine);
    expect(running.booted.id).toBe(a);
    assess(running, false);
    expect(running.world().failures).toMatchObject([{ attempts: 3 }]);
  }
  using running = startGrub(machine);
  expect(running.booted.id).toBe(a);
});

describe("the running deployment's entry is lost", () => {
  let ids: { a: string; b: string };
  beforeEach(async () => {
    const a = await install("10");
    using running = startGrub(machine);
    const b = await stage(running, "11");
    finalizeStaged(running, running.world());
    ids = { a, b };
  });
  const entryOf = (id: string) =>
    live()!.find(
      (name) =>
        name.endsWith(".conf") &&
        readFileSync(join(grubPaths(machine).entries, name), "utf8").includes(`composefs=?${id}`),
    )!;

  test.each<[string, string, () => void]>([
    ["gone", "entry-missing", () => rmSync(join(grubPaths(machine).entries, entryOf(ids.b)))],
    [
      "cut off",
      "entry-broken",
      () => writeFileSync(join(grubPaths(machine).entries, entryOf(ids.b)), "title"),
    ],
  ])("%s: a repair makes the menu anew, and updates go on", async (_, kind, lose) => {
    using running = startGrub(machine);
    assess(running, true);
    const before = readFileSync(join(grubPaths(machine).entries, entryOf(ids.b)), "utf8");
    lose();
    expect(inspectHost(running, running.booted, false)).toMatchObject([{ kind }]);
    const { remaining } = repairHost(running, running.booted, false, () => {});
    expect(remaining).toEqual([]);
    const after = readFileSync(join(grubPaths(machine).entries, entryOf(ids.b)), "utf8");
    const lines = (text: string) => text.split("\n").filter((line) => /^(linux|initrd)/.test(line));
    expect(lines(after)).toEqual(lines(before));
    expect(menuOrder()).toEqual([entryOf(ids.a), entryOf(ids.b)].map((name) => name.slice(0, -5)));
    const c = await stage(running, "12");
    finalizeStaged(running, running.world());
    using next = startGrub(machine);
    expect(next.booted.id).toBe(c);
  });

  test("with all others, and their directory", async () => {
    using running = startGrub(machine);
    assess(running, true);
    rmSync(join(grubPaths(machine).boot, "loader"), { recursive: true });
    expect(repairHost(running, running.booted, false, () => {}).remaining).toEqual([]);
    expect(menuOrder()).toEqual([entryOf(ids.b).slice(0, -5)]);
    using next = startGrub(machine);
    expect(next.booted.id).toBe(ids.b);
  });
});

test("an entry that somebody made immutable is in every menu, and no update stops at it", async () => {
  await install("10");
  const [name, text] = ["a.conf", "title C\nlinux /c\n"];
  const path = join(grubPaths(machine).entries, name);
  writeFileSync(path, text);
  execFileSync("chattr", ["+i", path]);
  for (const version of ["11", "12"]) {
    using running = startGrub(machine);
    assess(running, true);
    await stage(running, version);
    finalizeStaged(running, running.world());
    expect(existsSync(grubPaths(machine).staged)).toBe(false);
    expect(readFileSync(path, "utf8")).toBe(text);
  }
});

test("three updates: what no entry leads to is collected, also in /boot", async () => {
  const a = await install("1");
  const ids = [a];
  for (const version of ["2", "3"]) {
    using running = startGrub(machine);
    assess(running, true);
    ids.push(await stage(running, version));
    finalizeStaged(running, running.world());
  }
  using running = startGrub(machine);
  assess(running, true);
  applyCleanup(
    running,
    planCleanup(running.world(), readCleanupScope(running.repo, running.world())),
    {
      dryRun: false,
    },
  );
  const kept = ids.slice(1).map((id) => `bootc_composefs-${id}`);
  expect(list(grubPaths(machine).boot)).toEqual([...kept, "grub", "loader"].sort());
  expect(readFileSync(grubPaths(machine).environment).length).toBe(EMPTY_ENVIRONMENT.length);
});

describe("user.cfg", () => {
  const entry = (id: string) =>
    `menuentry "Fedora: (${id})" {\nchainloader /EFI/Linux/bootc/bootc_composefs-${id}.efi\n}\n`;
  const config = () => join(grubPaths(machine).boot, "grub2/user.cfg");

  function writeKernel(id: string): void {
    const directory = join(machine.esp, "EFI/Linux/bootc");
    mkdirSync(directory, { recursive: true });
    const uki = buildUki([[".cmdline", `composefs=?${id}`]]);
    writeFileSync(join(directory, `bootc_composefs-${id}.efi`), uki);
  }

  /** "2" runs, "1" is the rollback, and bootc keeps the menu in one file. */
  async function update() {
    const a = await install("1");
    let b: string;
    {
      using running = startGrub(machine);
      b = await stage(running, "2");
      finalizeStaged(running, running.world());
    }
    const running = startGrub(machine);
    const { boot: path } = grubPaths(machine);
    mkdirSync(join(path, "grub2"));
    writeFileSync(config(), `\n# own\n${entry(b)}${entry(a)}`);
    for (const id of [a, b]) writeKernel(id);
    const layout = {
      ...makeEspLayout("systemd", machine.esp),
      loader: "grub",
      userConfig: "grub2/user.cfg",
    } as const;
    const boot = borrowBootDirectory(path, { ...layout, counting: "none", kernelParent: "" });
    return { a, b, running, boot, world: () => observeWorld(running.system, boot, running.booted) };
  }

  test("a deployment that is deleted leaves it, and its kernel the ESP", async () => {
    const { a, b, boot, running, world } = await update();
    using _ = running;
    const before = world();
    applyDelete({ ...running, boot }, before, planDelete(before, a));
    expect(readFileSync(config(), "utf8")).toBe(`\n# own\n${entry(b)}`);
    expect(list(join(machine.esp, "EFI/Linux/bootc"))).toEqual([`bootc_composefs-${b}.efi`]);
    expect(world().states.map(({ id }) => id)).toEqual([b]);
    expect(list(join(boot.path, "grub2"))).toEqual(["user.cfg"]);
  });

  test("a staged deployment that is deleted takes the staged file along", async () => {
    const { a, b, boot, running, world } = await update();
    using _ = running;
    const c = await stage(running, "3");
    writeFileSync(`${config()}.staged`, `${entry(c)}${entry(b)}`);
    writeKernel(c);
    const before = world();
    applyDelete({ ...running, boot }, before, planDelete(before, c));
    expect(list(join(boot.path, "grub2"))).toEqual(["user.cfg"]);
    expect(readFileSync(config(), "utf8")).toBe(`\n# own\n${entry(b)}${entry(a)}`);
    expect(world()).toMatchObject({ stagedFile: null, staged: null });
    expect(list(join(machine.esp, "EFI/Linux/bootc"))).toHaveLength(2);
  });

  test("a rollback changes the order of the file, and nothing else in it", async () => {
    const { a, b, boot, running, world } = await update();
    using _ = running;
    const { path } = boot;
    expect(makeHostState(running.system, running.repo, world())).toMatchObject({
      booted: { id: b, missingVerityAllowed: true },
      rollback: { id: a },
      rollbackQueued: false,
    });
    applyRollback({ ...running, boot }, planRollback(world()));
    expect(readFileSync(join(path, "grub2/user.cfg"), "utf8")).toBe(
      `\n# own\n${entry(a)}${entry(b)}`,
    );
    expect(existsSync(join(path, "grub2/user.cfg.staged"))).toBe(false);
    expect(makeHostState(running.system, running.repo, world()).rollbackQueued).toBe(true);
    const kept = planCleanup(world(), readCleanupScope(running.repo, world()));
    expect(kept).toMatchObject({ ukis: [], states: [] });

    // What bootc staged is finalized; here its state is staged, and the menu written in its place.
    const c = await stage(running, "3");
    writeFileSync(join(path, "grub2/user.cfg.staged"), `# new\n${entry(c)}${entry(b)}`);
    writeKernel(c);
    expect(finalizeStaged({ ...running, boot }, world())).toMatchObject({ id: c });
    expect(readFileSync(join(path, "grub2/user.cfg"), "utf8")).toBe(
      `# new\n${entry(c)}${entry(b)}`,
    );
    expect(list(join(path, "grub2"))).toEqual(["user.cfg"]);
    expect(world().live.map(({ deploymentId }) => deploymentId)).toEqual([c, b]);
  });
});
