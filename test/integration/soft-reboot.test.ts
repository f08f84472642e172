// Soft reboots without a VM: two real deployments of a scratch machine, one mounted as the running root, the
// other on its /run/nextroot; what systemd would do in between is left out.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { OwnProgram } from "../../updater/boot/own-program.ts";
import {
  clearNextRoot,
  dropStaleNextRoot,
  mountNextRoot,
  readMounts,
  readNextRoot,
} from "../../updater/deploy/next-root.ts";
import { notePending } from "../../updater/deploy/pending.ts";
import {
  canSoftReboot,
  decideSoftReboot,
  finishRunning,
} from "../../updater/deploy/soft-reboot.ts";
import { type ScratchImage, writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch } from "../support/scratch-update.ts";
import { bootReally, PROGRAM, unmountRoots } from "../support/soft-reboot-machine.ts";

const SETTINGS = "usr/lib/composefs/setup-root-conf.toml";
const UNIT = "usr/lib/systemd/system/soft-reboot.target";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => {
  unmountRoots(machine);
  machine[Symbol.dispose]();
});

/** All have the same kernel, and a systemd that can do it. */
function writeImage(version: string, changes: Partial<ScratchImage> = {}): void {
  const { members = [], ...rest } = changes;
  const folders = ["usr/lib/systemd/", "usr/lib/systemd/system/", "usr/lib/composefs/"];
  writeScratchImage(imagePath, {
    version,
    kernel: "same",
    etc: { hosts: "image\n", [`from-${version}`]: version },
    members: [
      ...folders.map((name) => ({ name, type: "5" as const, mode: 0o755 })),
      { name: "usr/lib/systemd/systemd", content: "#!/bin/sh\n", mode: 0o755 },
      { name: UNIT, content: "[Unit]\n" },
      ...members,
    ],
    ...rest,
  });
}

async function stage(running: RunningMachine): Promise<string> {
  const id = await stageScratch(running, imagePath);
  notePending(running.system, running.boot, running.booted);
  return id;
}

const next = (path: string) => join(machine.run, "nextroot", path);
const read = (path: string) => readFileSync(path, "utf8");

function prepare(running: RunningMachine, id: string): void {
  const plan = decideSoftReboot(running, running.world(), id);
  if (plan.kind === "refused") throw new Error(plan.reasons.join());
  mountNextRoot(running.system, PROGRAM, plan);
}

function finish(
  running: RunningMachine,
  program: OwnProgram = PROGRAM,
  forceReboot: () => void = () => {
    throw new Error("forced");
  },
) {
  return finishRunning(running, running.world(), { program, shutdown: "soft-reboot", forceReboot });
}

/** Version 1 runs, version 2 is staged. */
async function stageSecond(first: Partial<ScratchImage> = {}, second = first, settings?: string) {
  writeImage("1", first);
  const { id: a } = await installScratch(machine, imagePath);
  const running = bootReally(machine, settings ?? null);
  writeImage("2", second);
  return { running, a, b: await stage(running) };
}

test("a change of /etc that is made after staging, and after preparing, is in the new root", async () => {
  const { b, running } = await stageSecond();
  using _ = running;
  const { root } = running.system;
  writeFileSync(join(root, "etc/after-staging"), "1");
  prepare(running, b);
  expect(readNextRoot(running.system, PROGRAM)).toEqual({ id: b });
  expect(read(next("etc/from-2"))).toBe("2");
  expect(existsSync(next("etc/after-staging"))).toBe(false);

  writeFileSync(join(root, "etc/after-preparing"), "2");
  writeFileSync(join(root, "etc/hosts"), "changed\n");
  expect(existsSync(join(machine.run, "reboot-required"))).toBe(true);
  const failedChecks = join(machine.run, "bootc/health-failed");
  mkdirSync(join(machine.run, "bootc"), { recursive: true });
  writeFileSync(failedChecks, '"web" failed\n');
  expect(finish(running)).toMatchObject({
    plan: { finalize: true, mount: b },
    finalized: { kind: "merge-and-exchange", id: b },
  });

  expect(read(next("etc/after-staging"))).toBe("1");
  expect(read(next("etc/after-preparing"))).toBe("2");
  expect(read(next("etc/hosts"))).toBe("changed\n");
  expect(read(next("etc/from-2"))).toBe("2");
  // What the new system writes stays with its deployment.
  writeFileSync(next("etc/by-the-new-system"), "");
  expect(existsSync(join(machine.disk, "state/deploy", b, "etc/by-the-new-system"))).toBe(true);
  // One /var.
  writeFileSync(join(root, "var/written"), "through the old root");
  expect(read(next("var/written"))).toBe("through the old root");
  expect(() => writeFileSync(next("usr/new"), "")).toThrow("EROFS");
  expect(() => writeFileSync(next("sysroot/new"), "")).toThrow("EROFS");
  const { live, staged, stagedFile } = running.world();
  expect([live[0]?.deploymentId, staged, stagedFile]).toEqual([b, null, null]);
  // /run outlives the soft reboot, and after it nothing waits for a restart or failed a check.
  expect(existsSync(failedChecks)).toBe(false);
  expect(existsSync(join(machine.run, "reboot-required"))).toBe(false);
});

test("what is possible is also what status says", async () => {
  const { a, b, running } = await stageSecond();
  using _ = running;
  const { repo, system } = running;
  expect(canSoftReboot(system, repo, running.world(), b)).toBe(true);
  expect(canSoftReboot(system, repo, running.world(), a)).toBe(false);
});

test("nothing was prepared: what runs starts once more, and what is staged waits", async () => {
  const { a, b, running } = await stageSecond();
  using _ = running;
  expect(finish(running)).toEqual({ plan: { finalize: false, mount: a }, finalized: null });
  expect(readNextRoot(running.system, PROGRAM)).toEqual({ id: a });
  expect(read(next("etc/from-1"))).toBe("1");
  const { staged, stagedFile } = running.world();
  expect([staged?.[0]?.deploymentId, stagedFile]).toEqual([b, { id: b, locked: false }]);
  // The same /etc and /var, not copies.
  writeFileSync(next("etc/later"), "");
  expect(existsSync(join(running.system.root, "etc/later"))).toBe(true);
});

test("a conflict in /etc that came after preparing: what runs starts once more, nothing is lost", async () => {
  const { a, b, running } = await stageSecond({}, { etc: { hosts: "image\n", added: "2" } });
  using _ = running;
  prepare(running, b);
  // The new image has a file of that name.
  mkdirSync(join(running.system.root, "etc/added"));
  expect(() => finish(running)).toThrow(/^Cannot soft-reboot into deployment [^\n]*added/);
  expect(readNextRoot(running.system, PROGRAM)).toEqual({ id: a });
  const world = running.world();
  expect(world.stagedFile).toEqual({ id: b, locked: false });
  expect(world.live[0]?.deploymentId).toBe(a);
});

test("a root that cannot be mounted when all is committed: the machine restarts as a whole", async () => {
  const { a, b, running } = await stageSecond();
  using _ = running;
  prepare(running, b);
  let forced = 0;
  const broken: OwnProgram = { command: ["false"], mountNamespace: null };
  const count = () => void forced++;
  expect(() => finish(running, broken, count)).toThrow("Cannot mount deployment");
  expect(forced).toBe(1);
  // /etc was merged and the entries were exchanged before, so the full restart starts what was meant.
  expect(running.world().live.map(({ deploymentId }) => deploymentId)).toEqual([b, a]);
  expect(running.world().stagedFile).toBeNull();
});

test("an interrupted finalize is finished by the next, and the root mounted after it", async () => {
  const { b, running } = await stageSecond();
  using _ = running;
  prepare(running, b);
  writeFileSync(join(running.system.root, "etc/local"), "kept");
  finish(running);
  clearNextRoot(running.system, PROGRAM);
  // As if the staged file had outlived the exchange.
  writeFileSync(
    join(machine.run, "composefs/staged-deployment"),
    JSON.stringify({ depl_id: b, finalization_locked: false }),
  );
  prepare(running, b);
  expect(finish(running)).toMatchObject({ finalized: { kind: "cleanup", id: b } });
  expect(read(next("etc/local"))).toBe("kept");
});

const settingsFile = (text: string) => ({ members: [{ name: SETTINGS, content: text }] });
const TRANSIENT_ETC = '[etc]\nmount = "transient"\n';
const kindOf = (path: string) => {
  const found = readMounts(PROGRAM).findLast((mount) => mount.path === path);
  return found === undefined ? null : `${found.fileSystem} ${found.source.split(":")[0]}`;
};

test.each([
  ["/etc", TRANSIENT_ETC, "etc", "overlay transient"],
  ["/etc on the disk", '[etc]\nmount = "overlay"\n', "etc", "overlay overlay"],
  ["the root", "[root]\ntransient = true\n", "", "overlay transient"],
])("the target's settings count: %s", async (_name, text, at, kind) => {
  const { b, running } = await stageSecond(settingsFile(text), settingsFile(text), text);
  using _ = running;
  prepare(running, b);
  expect(kindOf(next(at))).toBe(kind);
});

test("what runs starts once more as it was mounted, whatever its image says", async () => {
  writeImage("1");
  const { id: a } = await installScratch(machine, imagePath);
  const running = bootReally(machine, TRANSIENT_ETC);
  using _ = running;
  expect(finish(running)).toEqual({ plan: { finalize: false, mount: a }, finalized: null });
  expect(kindOf(next("etc"))).toBe("overlay transient");
  expect(kindOf(next("var"))).toMatch(/^tmpfs /);
});

test("other settings than the running image's are refused: the initramfs has one of both", async () => {
  const { b, running } = await stageSecond({}, settingsFile(TRANSIENT_ETC));
  using _ = running;
  expect(decideSoftReboot(running, running.world(), b)).toMatchObject({
    kind: "refused",
    reasons: [expect.stringContaining("setup-root-conf.toml")],
  });
});

test("settings that the initramfs does not have are found out, and nothing stays mounted", async () => {
  // The initramfs was built without the file that both images have.
  const { b, running } = await stageSecond(settingsFile(TRANSIENT_ETC));
  using _ = running;
  expect(() => prepare(running, b)).toThrow(
    "its /etc is transient and the running one's is kept, so the settings in the initramfs are not the image's",
  );
  expect(readNextRoot(running.system, PROGRAM)).toBeNull();
});

test("another kernel, other arguments: every reason", async () => {
  const { b, running } = await stageSecond({}, { kernel: "new", kargs: 'kargs = ["new=1"]' });
  using _ = running;
  expect(decideSoftReboot(running, running.world(), b)).toMatchObject({
    reasons: ["it has another kernel or initramfs", "its kernel arguments are others (+new=1)"],
  });
});

test("with SELinux on, the newest policies are compared", async () => {
  const { b, running } = await stageSecond();
  using _ = running;
  const reasons = () => {
    const plan = decideSoftReboot(running, running.world(), b);
    return plan.kind === "refused" ? plan.reasons : [];
  };
  const etcs = [join(running.system.root, "etc"), join(machine.disk, "state/deploy", b, "etc")];
  const write = (etc: string, name: string, text: string) => {
    mkdirSync(join(etc, "selinux/targeted/policy"), { recursive: true });
    writeFileSync(join(etc, "selinux", name), text);
  };
  for (const etc of etcs) write(etc, "config", "# of\nSELINUXTYPE=targeted\n");
  write(etcs[0]!, "targeted/policy/policy.33", "one");
  write(etcs[1]!, "targeted/policy/policy.33", "two");
  expect(reasons()).toEqual([]); // off
  mkdirSync(join(running.system.sysfs, "fs/selinux"), { recursive: true });
  writeFileSync(join(running.system.sysfs, "fs/selinux/enforce"), "1");
  expect(reasons()).toEqual(["its SELinux policy is another one"]);
  write(etcs[1]!, "targeted/policy/policy.33", "one");
  write(etcs[1]!, "targeted/policy/policy.9", "old");
  expect(reasons()).toEqual([]);
  write(etcs[1]!, "targeted/policy/policy.34", "new");
  expect(reasons()).toEqual(["its SELinux policy is another one"]);
});

test("preparing again replaces, another update takes it back, and so does a reset", async () => {
  const { b, running } = await stageSecond();
  using _ = running;
  const count = () => readMounts(PROGRAM).filter(({ path }) => path === next("")).length;
  prepare(running, b);
  prepare(running, b);
  expect(count()).toBe(1);
  expect(clearNextRoot(running.system, PROGRAM)).toBe(true);
  expect(count()).toBe(0);
  expect(clearNextRoot(running.system, PROGRAM)).toBe(false);

  prepare(running, b);
  dropStaleNextRoot({ ...running.system, mounts: readMounts(PROGRAM) }, PROGRAM, b);
  expect(count()).toBe(1);
  dropStaleNextRoot({ ...running.system, mounts: readMounts(PROGRAM) }, PROGRAM, null);
  expect(count()).toBe(0);
});
