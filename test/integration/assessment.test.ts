// Judging a start on real directories: blessing (also with a full ESP), records of every quality, and the
// health checks.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { markReached } from "../../initrd/reached-mark.ts";
import { BUN } from "../../scripts/build.ts";
import { MNT, O } from "../../shared/sys/constants.ts";
import { openat } from "../../shared/sys/file.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { borrowBootDirectory, makeEspLayout } from "../../updater/boot/boot-layout.ts";
import { applyAssessment } from "../../updater/deploy/assess.ts";
import type { AssessPlan } from "../../updater/deploy/assess-plan.ts";
import { readFailures } from "../../updater/deploy/boot-failure.ts";
import { readBootRecords } from "../../updater/deploy/boot-record.ts";
import { noteFailedStart, planFailure, spendStart } from "../../updater/deploy/failed-start.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { projectDir } from "../support/cache.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { assess, type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";

const id = "ab".repeat(64);
let machine: ScratchMachine;
beforeEach(() => {
  machine = new ScratchMachine();
});
afterEach(() => machine[Symbol.dispose]());

const failure = {
  id,
  manifestDigest: null,
  image: null,
  at: "2026-01-01T00:00:00.000Z",
  reason: "unit",
  detail: null,
  attempts: 3,
  retrying: false,
} as const;
const quiet: AssessPlan = {
  bless: null,
  blessGrub: false,
  grubMenu: null,
  newFailures: [],
  failures: null,
  started: [],
  trialEnds: false,
};
const failed = { id, at: "2026-01-01T00:00:00.000Z", detail: "x.service failed" };
const records = () => join(machine.disk, "state/bootc");
const entries = () => join(machine.esp, "loader/entries");

function apply(plan: Partial<AssessPlan>): void {
  const boot = borrowBootDirectory(machine.esp, makeEspLayout("systemd", machine.esp));
  applyAssessment({ system: machine.system(), boot }, { ...quiet, ...plan });
}

function writeRecords(): void {
  mkdirSync(records(), { recursive: true });
  for (const name of ["boot-trial.json", "boot-refused.json", "boot-failed.json"]) {
    writeFileSync(join(records(), name), "{}");
  }
}

describe("blessing", () => {
  const bless = {
    id,
    from: "bootc_x-1-1+2-1.conf",
    to: { fileName: "bootc_x-1-1.conf", text: "version 1\nlinux /v\n" },
  };
  beforeEach(() => {
    mkdirSync(entries(), { recursive: true });
    writeFileSync(join(entries(), bless.from), bless.to.text);
  });

  test("the counter goes, and with the end of the trial its records", () => {
    writeRecords();
    apply({ bless, trialEnds: true });
    expect(readdirSync(entries())).toEqual([bless.to.fileName]);
    expect(readFileSync(join(entries(), bless.to.fileName), "utf8")).toBe(bless.to.text);
    expect(readdirSync(records())).toEqual([]);
  });

  test("done again after it was cut between the two names", () => {
    writeFileSync(join(entries(), bless.to.fileName), bless.to.text);
    apply({ bless });
    expect(readdirSync(entries())).toEqual([bless.to.fileName]);
  });

  test("on an ESP without room for one more file", () => {
    // Two inodes: the directory, and the entry that is there.
    mount("tmpfs", entries(), "tmpfs", 0, "nr_inodes=2");
    try {
      writeFileSync(join(entries(), bless.from), bless.to.text);
      expect(() => writeFileSync(join(entries(), "more"), "")).toThrow("ENOSPC");
      apply({ bless });
      expect(readdirSync(entries())).toEqual([bless.to.fileName]);
    } finally {
      umount2(entries(), MNT.DETACH);
    }
  });
});

test("a failure is kept, and read again; the trial goes on while something has tries", () => {
  writeRecords();
  apply({ failures: [failure], newFailures: [failure] });
  expect(readFailures(machine.disk)).toEqual({ failures: [failure], problems: [] });
  expect(existsSync(join(records(), "boot-trial.json"))).toBe(true);
  apply({ failures: [], trialEnds: true });
  expect(readFailures(machine.disk).failures).toEqual([]);
  expect(readdirSync(records())).toEqual(["boot-failures.json"]);
});

test.each([
  ["nothing", () => {}],
  ["rubbish", () => writeRecords()],
  [
    "half a file, a directory, a link to nowhere",
    () => {
      mkdirSync(join(records(), "boot-refused.json"), { recursive: true });
      symlinkSync("nowhere", join(records(), "boot-failed.json"));
      writeFileSync(join(records(), "boot-reached"), "abc");
    },
  ],
])("records: %s", (_, prepare) => {
  prepare();
  expect(readBootRecords(machine.system())).toEqual({
    refused: null,
    failed: null,
    reached: [],
    watchdog: false,
  });
});

test("how far a start got is read; the watchdog tells that it restarted the machine", () => {
  mkdirSync(join(machine.disk, "state/bootc"), { recursive: true });
  const other = "cd".repeat(64);
  // The one that is fallen back to comes the same way, and does not hide what it looks for.
  using disk = openat(null, machine.disk, O.PATH | O.DIRECTORY);
  writeFileSync(join(records(), "boot-trial.json"), "{}\n");
  for (const started of [id, other]) markReached(disk, started, new Date("2026-01-01T00:00:00.5Z"));
  const watchdog = join(machine.directory, "sys/class/watchdog/watchdog0");
  mkdirSync(watchdog, { recursive: true });
  writeFileSync(join(watchdog, "bootstatus"), "32\n");
  const found = readBootRecords(machine.system());
  const at = "2026-01-01T00:00:00.000Z";
  expect(found).toMatchObject({
    reached: [
      { id, at },
      { id: other, at },
    ],
    watchdog: true,
  });
});

describe("an update that does not start", () => {
  const image = () => join(machine.directory, "os.oci");
  const update = (running: RunningMachine, changes: Partial<UpdateRequest> = {}) =>
    updateScratch(running, image(), changes);

  test("three starts, back to the one before, not staged again; told to, it gets three more", async () => {
    writeScratchImage(image(), { version: "1" });
    await installScratch(machine, image());
    writeScratchImage(image(), { version: "2" });
    {
      using running = machine.boot();
      await update(running);
      finalizeStaged(running, running.world());
    }
    expect(existsSync(join(records(), "boot-trial.json"))).toBe(true);
    const started = [1, 2, 3].map(() => {
      using running = machine.boot(0, false);
      return running.booted.id;
    });
    expect(new Set(started).size).toBe(1);

    using back = machine.boot(0, false);
    expect(back.booted.id).not.toBe(started[0]);
    assess(back, false);
    expect(back.world().failures).toMatchObject([
      { id: started[0], attempts: 3, reason: "initramfs", retrying: false },
    ]);
    expect(existsSync(join(records(), "boot-trial.json"))).toBe(false);
    expect(await update(back)).toMatchObject({
      kind: "failed-before",
      failure: { id: started[0] },
    });
    await expect(update(back, { kind: "switch" })).rejects.toThrow("did not start");
    // The same deployment under another manifest is found when its image was made.
    const [failed] = back.world().failures;
    apply({ failures: [{ ...failed!, manifestDigest: null }] });
    expect(await update(back)).toMatchObject({ kind: "failed-before" });

    expect(await update(back, { retryFailed: true })).toMatchObject({
      kind: "staged",
      id: started[0],
    });
    expect(back.world().failures).toMatchObject([{ retrying: true }]);
    finalizeStaged(back, back.world());
    expect(readdirSync(entries()).sort()).toEqual([
      "bootc_fedora-1-0.conf",
      "bootc_fedora-2-1+3.conf",
    ]);
    using good = machine.boot();
    expect(good.booted.id).toBe(started[0]);
    expect(good.world().failures).toEqual([]);
    expect(readdirSync(entries()).sort()).toEqual([
      "bootc_fedora-1-0.conf",
      "bootc_fedora-2-1.conf",
    ]);
  });

  test("another try that is lost before it is applied is none, and is not counted", async () => {
    writeScratchImage(image(), { version: "1" });
    await installScratch(machine, image());
    writeScratchImage(image(), { version: "2" });
    {
      using running = machine.boot();
      await update(running);
      finalizeStaged(running, running.world());
    }
    for (let i = 0; i < 3; i += 1) machine.boot(0, false)[Symbol.dispose]();
    {
      using back = machine.boot();
      expect(back.world().failures).toMatchObject([{ attempts: 3, retrying: false }]);
      await update(back, { retryFailed: true });
      expect(back.world().failures).toMatchObject([{ attempts: 3, retrying: true }]);
    }
    {
      // The power went: nothing is staged.
      using again = machine.boot();
      expect(again.world().failures).toMatchObject([{ attempts: 3, retrying: false }]);
      expect(await update(again)).toMatchObject({ kind: "failed-before" });
      await update(again, { retryFailed: true });
      finalizeStaged(again, again.world());
      expect(again.world().failures).toMatchObject([{ attempts: 3, retrying: true }]);
    }
    for (let i = 0; i < 3; i += 1) machine.boot(0, false)[Symbol.dispose]();
    using last = machine.boot();
    expect(last.world().failures).toMatchObject([{ attempts: 6, retrying: false }]);
  });

  test("a soft reboot into it that fails uses up a try; the last one leads back", async () => {
    writeScratchImage(image(), { version: "1" });
    await installScratch(machine, image());
    writeScratchImage(image(), { version: "2" });
    using running = machine.boot();
    const { id: target } = (await update(running)) as { id: string };
    finalizeStaged(running, running.world());
    for (const left of [2, 1, 0]) {
      const booted = { id: target, verityOptional: false };
      const plan = planFailure({ ...running.world(), booted }, { ...failed, id: target });
      if (plan.kind !== "failed") throw new Error(plan.kind);
      expect(plan.restarts).toBe(true);
      expect(noteFailedStart(running.system, plan)).toBeNull();
      spendStart(running.boot, plan);
      expect(readdirSync(entries())).toContain(`bootc_fedora-2-1+${left}-${3 - left}.conf`);
    }
    using back = machine.boot(0, false);
    expect(back.booted.id).toBe(running.booted.id);
    assess(back, false);
    expect(back.world().failures).toMatchObject([
      { id: target, attempts: 3, reason: "unit", detail: "After a soft reboot: x.service failed" },
    ]);
  });

  test("what cannot be written down is told, and keeps nobody from restarting", async () => {
    writeScratchImage(image(), { version: "1" });
    await installScratch(machine, image());
    using running = machine.boot();
    const plan = planFailure(running.world(), { ...failed, id: running.booted.id });
    if (plan.kind !== "failed") throw new Error(plan.kind);
    rmSync(join(machine.disk, "state/bootc"), { recursive: true, force: true });
    writeFileSync(join(machine.disk, "state/bootc"), "");
    expect(noteFailedStart(running.system, plan)).toMatch(/state\/bootc" is not a directory$/);
  });

  test("a boot that is blessed after staging is not counted in the menu that shutdown makes", async () => {
    writeScratchImage(image(), { version: "1" });
    await installScratch(machine, image());
    for (const version of ["2", "3"]) {
      writeScratchImage(image(), { version });
      using running = machine.boot(0, false);
      await update(running);
      if (version === "3") {
        const staged = readdirSync(join(machine.esp, "loader/entries.staged")).sort();
        expect(staged).toEqual([
          "bootc_fedora-1-0.conf",
          "bootc_fedora-2-0+2-1.conf",
          "bootc_fedora-3-1+3.conf",
        ]);
        assess(running, true);
      }
      finalizeStaged(running, running.world());
    }
    expect(readdirSync(entries()).sort()).toEqual([
      "bootc_fedora-1-0.conf",
      "bootc_fedora-2-0.conf",
      "bootc_fedora-3-1+3.conf",
    ]);
  });
});

/** Its own process, because the checks write to what it writes to. */
const healthProgram = `
  import { writeSync } from "node:fs";
  import { runHealthChecks } from "${join(projectDir, "updater/deploy/health-checks.ts")}";
  const isHealthy = runHealthChecks(JSON.parse(process.argv[1]), (line) => writeSync(1, line + "\\n"));
  process.exit(isHealthy ? 0 : 1);
`;

describe("health checks", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "health-"));
    mkdirSync(join(root, "run"));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  function put(path: string, script: string, mode = 0o755): void {
    const file = join(root, path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, script);
    chmodSync(file, mode);
  }
  const run = () => {
    const places = { root, runDirectory: join(root, "run") };
    const result = spawnSync(BUN, ["-e", healthProgram, JSON.stringify(places)], {
      encoding: "utf8",
    });
    const file = join(root, "run/bootc/health-failed");
    return {
      code: result.status,
      output: result.stdout,
      failed: existsSync(file) ? readFileSync(file, "utf8") : null,
    };
  };

  test("none is fine", () => {
    expect(run()).toEqual({ code: 0, output: "", failed: null });
  });

  test("in the order of their names, all of them, the one in /etc instead of the image's", () => {
    put("usr/lib/bootc/health.d/20-b", "#!/bin/sh\necho from the image\nexit 1\n");
    put("etc/bootc/health.d/20-b", "#!/bin/sh\necho from the machine\n");
    put("usr/lib/bootc/health.d/10 a", "#!/bin/sh\necho first; exit 7\n");
    put("usr/lib/bootc/health.d/30-c", "#!/bin/sh\necho last\n");
    put("usr/lib/bootc/health.d/README", "not a program", 0o644);
    const { code, output, failed } = run();
    expect(code).toBe(1);
    expect(output.match(/first|from the \w+|last/g)).toEqual(["first", "from the machine", "last"]);
    expect(failed).toBe('"10 a" failed (exit status 7)\n');
    expect(output).toContain("<3>health check 10 a: failed (exit status 7)");
    expect(output).not.toContain("README");
  });

  test("masked by a link to /dev/null, and by an empty file", () => {
    put("usr/lib/bootc/health.d/a", "#!/bin/sh\nexit 1\n");
    put("usr/lib/bootc/health.d/b", "#!/bin/sh\nexit 1\n");
    put("etc/bootc/health.d/b", "", 0o644);
    symlinkSync("/dev/null", join(root, "etc/bootc/health.d/a"));
    expect(run()).toEqual({ code: 0, output: "", failed: null });
  });

  test("one that hangs is ended, and what an earlier run found is forgotten", () => {
    put("usr/lib/bootc/health.d/slow", "#!/bin/sh\nexec sleep 1000\n");
    put("etc/bootc/health-timeout", "0.2\n", 0o644);
    expect(run()).toMatchObject({
      code: 1,
      failed: '"slow" failed (took longer than 0.2 seconds)\n',
    });
    rmSync(join(root, "usr/lib/bootc/health.d/slow"));
    expect(run()).toEqual({ code: 0, output: "", failed: null });
  });
});
