// The life of a machine in a directory, with real files and a real repository: install, update, shut
// down, boot, roll back, clean up, and what an interruption leaves (bootc.md Appendix A).

import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

function reference() {
  return makeImageReference("oci", imagePath);
}

function install() {
  return installScratch(machine, imagePath);
}

const update = (running: RunningMachine, changes: Partial<UpdateRequest> = {}) =>
  updateScratch(running, imagePath, changes);

/** Everything Appendix A has a column for. */
function observe() {
  const list = (path: string) => (existsSync(path) ? readdirSync(path).sort() : null);
  const staged = join(machine.run, "composefs/staged-deployment");
  return {
    entries: list(join(machine.esp, "loader/entries")),
    staged: list(join(machine.esp, "loader/entries.staged")),
    kernels: list(join(machine.esp, "EFI/Linux")),
    states: list(join(machine.disk, "state/deploy")),
    tags: list(join(machine.disk, "composefs/streams/refs/oci")),
    stagedFile: existsSync(staged) ? readFileSync(staged, "utf8") : null,
  };
}

const tagFile = (manifest: string) => `localhost%2Fbootc-${manifest}`;
const etcOf = (id: string) => statePaths(machine.disk, id).etc;

const TRIAL_KARGS = "panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot";

test("install, two updates, collection, rollback: the states of Appendix A", async () => {
  const ma = writeScratchImage(imagePath, { version: "1", kargs: 'kargs = ["image=1"]' });
  const { id: a } = await install();
  const installed = observe();
  expect(installed).toEqual({
    entries: ["bootc_fedora-1-1.conf"],
    staged: null,
    kernels: [`bootc_composefs-${a}`],
    states: [a],
    tags: [tagFile(ma)],
    stagedFile: null,
  });
  expect(readFileSync(join(machine.esp, "loader/entries/bootc_fedora-1-1.conf"), "utf8")).toBe(
    `title Fedora 1
version 1
linux /EFI/Linux/bootc_composefs-${a}/vmlinuz
initrd /EFI/Linux/bootc_composefs-${a}/initrd
options root=UUID=1234 rw console=ttyS0 composefs=?${a} image=1 ${TRIAL_KARGS}
sort-key bootc-fedora-0
x-options-source-bootc ${TRIAL_KARGS}
`,
  );

  const mb = writeScratchImage(imagePath, { version: "2", kargs: 'kargs = ["image=2"]' });
  let b: string;
  {
    using running = machine.boot();
    const outcome = await update(running);
    expect(outcome).toMatchObject({ kind: "staged", manifestDigest: mb, facts: { version: "2" } });
    b = (outcome as { id: string }).id;
    expect(observe()).toEqual({
      ...installed,
      staged: ["bootc_fedora-1-0.conf", "bootc_fedora-2-1+3.conf"],
      kernels: [`bootc_composefs-${a}`, `bootc_composefs-${b}`].sort(),
      states: [a, b].sort(),
      tags: [tagFile(ma), tagFile(mb)].sort(),
      stagedFile: `{"depl_id":"${b}","finalization_locked":false}`,
    });
    expect(finalizeStaged(running, running.world())).toMatchObject({
      kind: "merge-and-exchange",
      id: b,
    });
  }
  const upgraded = observe();
  expect(upgraded).toMatchObject({
    entries: ["bootc_fedora-1-0.conf", "bootc_fedora-2-1+3.conf"],
    staged: null,
    states: [a, b].sort(),
    stagedFile: null,
  });
  const newest = readFileSync(join(machine.esp, "loader/entries/bootc_fedora-2-1+3.conf"), "utf8");
  expect(newest).toContain(
    `options root=UUID=1234 rw console=ttyS0 composefs=?${b} ${TRIAL_KARGS} image=2\n`,
  );

  const mc = writeScratchImage(imagePath, { version: "3" });
  let c: string;
  {
    using running = machine.boot();
    expect(running.booted).toEqual({ id: b, verityOptional: true });
    c = ((await update(running)) as { id: string }).id;
    expect(observe()).toMatchObject({
      // This start is good, so it is no longer counted.
      entries: ["bootc_fedora-1-0.conf", "bootc_fedora-2-1.conf"],
      staged: ["bootc_fedora-2-0.conf", "bootc_fedora-3-1+3.conf"],
      states: [a, b, c].sort(),
      tags: [ma, mb, mc].map(tagFile).sort(),
    });
    finalizeStaged(running, running.world());
  }
  // The kernels of A went at shutdown, its state goes with the next collection.
  expect(observe()).toMatchObject({
    kernels: [`bootc_composefs-${b}`, `bootc_composefs-${c}`].sort(),
    states: [a, b, c].sort(),
  });
  {
    using running = machine.boot();
    const world = running.world();
    const plan = planCleanup(world, readCleanupScope(running.repo, world));
    const wouldRemove = applyCleanup(running, plan, { dryRun: true });
    expect(observe().states).toHaveLength(3);
    expect(wouldRemove.objectsRemoved).toBeGreaterThan(0);
    expect(applyCleanup(running, plan, { dryRun: false })).toEqual(wouldRemove);
    expect(observe()).toMatchObject({
      entries: ["bootc_fedora-2-0.conf", "bootc_fedora-3-1.conf"],
      states: [b, c].sort(),
      tags: [mb, mc].map(tagFile).sort(),
    });

    applyRollback(running, planRollback(running.world()));
    expect(observe()).toMatchObject({
      entries: ["bootc_bootc-2-1.conf", "bootc_bootc-3-0.conf"],
      staged: null,
      states: [b, c].sort(),
    });
    const host = makeHostState(running.system, running.repo, running.world());
    expect(host).toMatchObject({
      booted: { id: c, version: "3", manifestDigest: mc, image: reference() },
      rollback: { id: b, version: "2", timestamp: "2026-01-02T03:04:05Z" },
      staged: null,
      rollbackQueued: true,
      problems: [],
    });
  }
  using back = machine.boot();
  expect(back.booted.id).toBe(b);
  expect(makeHostState(back.system, back.repo, back.world())).toMatchObject({
    rollbackQueued: false,
    rollback: { id: c },
  });
});

describe("the state of a deployment", () => {
  test("install writes /etc and /var with owners and modes, links and origin", async () => {
    writeScratchImage(imagePath, {
      version: "1",
      etc: { "plain.conf": "x", ".updated": "stamp" },
      members: [
        { name: "etc/secret", content: "s", mode: 0o4640, uid: 3, gid: 4, mtime: 1000 },
        { name: "etc/hard", type: "1", linkName: "etc/secret" },
        { name: "etc/soft", type: "2", linkName: "../usr/lib/os-release" },
      ],
    });
    const { id } = await install();
    const etc = etcOf(id);
    expect(readdirSync(etc).sort()).toEqual(["hard", "plain.conf", "secret", "soft"]);
    const secret = lstatSync(join(etc, "secret"));
    expect([secret.mode & 0o7777, secret.uid, secret.gid, secret.mtimeMs]).toEqual([
      0o4640, 3, 4, 1_000_000,
    ]);
    expect(statSync(join(etc, "hard")).ino).toBe(secret.ino);
    expect(readlinkSync(join(etc, "soft"))).toBe("../usr/lib/os-release");
    const paths = statePaths(machine.disk, id);
    expect(readlinkSync(paths.var)).toBe("../../os/default/var");
    const seed = join(paths.var, "lib/seed");
    expect(readFileSync(seed, "utf8")).toBe("from 1");
    expect([statSync(seed).uid, statSync(join(seed, "..")).mode & 0o7777]).toEqual([7, 0o711]);
    expect(readlinkSync(join(machine.disk, "ostree/bootc"))).toBe("../composefs/bootc");
    expect(statSync(join(machine.disk, "composefs")).mode & 0o7777).toBe(0o700);
    const kernel = join(machine.esp, "EFI/Linux", `bootc_composefs-${id}`);
    const digest = createHash("sha256")
      .update(readFileSync(join(kernel, "vmlinuz")))
      .update(readFileSync(join(kernel, "initrd")))
      .digest("hex");
    expect(readFileSync(paths.origin, "utf8")).toBe(
      `[origin]
container-image-reference=ostree-unverified-image:oci:${imagePath}
[boot]
boot_type=bls
digest=${digest}
[image]
manifest_digest=${observe().tags?.[0]?.replace("localhost%2Fbootc-", "")}
`,
    );
  });

  test("local changes of /etc move into the update, also those made after staging", async () => {
    writeScratchImage(imagePath, { version: "1", etc: { kept: "1", changed: "1", gone: "1" } });
    const { id: a } = await install();
    writeFileSync(join(etcOf(a), "changed"), "local");
    writeScratchImage(imagePath, {
      version: "2",
      etc: { kept: "2", changed: "2", gone: "2", fresh: "2" },
    });
    using running = machine.boot();
    const { id: b } = (await update(running)) as { id: string };
    expect(readFileSync(join(etcOf(b), "changed"), "utf8")).toBe("2");
    rmSync(join(etcOf(a), "gone"));
    mkdirSync(join(etcOf(a), "dir"));
    writeFileSync(join(etcOf(a), "dir/late"), "late");
    finalizeStaged(running, running.world());
    const read = (name: string) => readFileSync(join(etcOf(b), name), "utf8");
    expect(["kept", "changed", "fresh", "dir/late"].map(read)).toEqual(["2", "local", "2", "late"]);
    expect(existsSync(join(etcOf(b), "gone"))).toBe(false);
    expect(readdirSync(statePaths(machine.disk, b).directory).sort()).toEqual([
      `${b}.origin`,
      `${b}.policy.json`,
      `${b}.trust.json`,
      "etc",
      "var",
    ]);
    // /var belongs to the machine, not to the image.
    expect(readFileSync(join(machine.disk, "state/os/default/var/lib/seed"), "utf8")).toBe(
      "from 1",
    );
  });

  test("an /etc conflict is refused when staging, and nothing is staged", async () => {
    writeScratchImage(imagePath, { version: "1", etc: { thing: "1" } });
    const { id: a } = await install();
    writeFileSync(join(etcOf(a), "thing"), "local");
    writeScratchImage(imagePath, {
      version: "2",
      members: [{ name: "etc/thing/", type: "5", mode: 0o755 }],
    });
    using running = machine.boot();
    const before = observe();
    await expect(update(running)).rejects.toThrow(/Merge conflicts found in etc.*thing/);
    expect(observe()).toEqual({ ...before, tags: observe().tags });
  });
});

describe("kernels", () => {
  test("an equal kernel is not copied again, and outlives the deployment it is named after", async () => {
    writeScratchImage(imagePath, { version: "1", kernel: "same" });
    const { id: a } = await install();
    writeScratchImage(imagePath, { version: "2", kernel: "same" });
    using running = machine.boot();
    const { id: b } = (await update(running)) as { id: string };
    finalizeStaged(running, running.world());
    expect(observe().kernels).toEqual([`bootc_composefs-${a}`]);
    const entry = readFileSync(join(machine.esp, "loader/entries/bootc_fedora-2-1+3.conf"), "utf8");
    expect(entry).toContain(`linux /EFI/Linux/bootc_composefs-${a}/vmlinuz\n`);
    expect(entry).toContain(`composefs=?${b}`);
  });
});

describe("verbs that find nothing new", () => {
  test("upgrade to what is booted, check, dry run", async () => {
    writeScratchImage(imagePath, { version: "1" });
    await install();
    using running = machine.boot();
    expect(await update(running)).toEqual({ kind: "unchanged", slot: "booted" });
    const manifest = writeScratchImage(imagePath, { version: "2" });
    const before = observe();
    expect(await update(running, { checkOnly: true })).toMatchObject({
      kind: "available",
      manifestDigest: manifest,
      facts: { version: "2" },
    });
    expect(observe()).toEqual(before);
    expect(await update(running, { dryRun: true })).toMatchObject({
      kind: "planned",
      preparation: { plan: { kernel: { write: true } } },
    });
    expect(observe()).toEqual({ ...before, tags: observe().tags });
  });

  test("download only: locked, kept over shutdown, released by a plain upgrade", async () => {
    writeScratchImage(imagePath, { version: "1" });
    await install();
    writeScratchImage(imagePath, { version: "2" });
    using running = machine.boot();
    const { id } = (await update(running, { downloadOnly: true })) as { id: string };
    expect(finalizeStaged(running, running.world())).toMatchObject({ kind: "nothing" });
    expect(await update(running, { downloadOnly: true })).toMatchObject({ lock: "kept" });
    expect(await update(running)).toEqual({ kind: "already-staged", id, lock: "unlocked" });
    expect(await update(running)).toMatchObject({ lock: "kept" });
    expect(finalizeStaged(running, running.world())).toMatchObject({
      kind: "merge-and-exchange",
      id,
    });
  });

  test("switching to the running image under another name is refused", async () => {
    writeScratchImage(imagePath, { version: "1" });
    await install();
    using running = machine.boot();
    await expect(update(running, { kind: "switch" })).rejects.toThrow("existing booted deployment");
  });
});

describe("interruptions", () => {
  async function staged() {
    writeScratchImage(imagePath, { version: "1", etc: { file: "1" } });
    const { id: a } = await install();
    writeFileSync(join(etcOf(a), "local"), "local");
    writeScratchImage(imagePath, { version: "2", etc: { file: "2" } });
    const running = machine.boot();
    const { id: b } = (await update(running)) as { id: string };
    return { running, a, b };
  }

  test("finalize again after /etc was swapped in, but nothing exchanged", async () => {
    const { running, a, b } = await staged();
    using _ = running;
    // Exactly what lies on the disk at that moment: the merged /etc, the entries of before.
    const loader = join(machine.esp, "loader");
    cpSync(loader, join(machine.directory, "loader"), { recursive: true });
    const stagedFile = readFileSync(join(machine.run, "composefs/staged-deployment"));
    finalizeStaged(running, running.world());
    const done = observe();
    rmSync(loader, { recursive: true });
    renameSync(join(machine.directory, "loader"), loader);
    writeFileSync(join(machine.run, "composefs/staged-deployment"), stagedFile);
    mkdirSync(join(statePaths(machine.disk, b).directory, "etc.partial"));
    rmSync(join(etcOf(a), "local"));

    expect(finalizeStaged(running, running.world())).toMatchObject({
      kind: "merge-and-exchange",
      id: b,
    });
    expect(observe()).toEqual(done);
    // Merged anew: what the first run had carried over was taken back by the administrator.
    expect(readdirSync(etcOf(b))).toEqual(["file"]);
    expect(readdirSync(statePaths(machine.disk, b).directory)).not.toContain("etc.partial");
  });

  test("finalize again after the exchange only cleans", async () => {
    const { running, b } = await staged();
    using _ = running;
    const stagedFile = readFileSync(join(machine.run, "composefs/staged-deployment"));
    finalizeStaged(running, running.world());
    const done = observe();
    writeFileSync(join(machine.run, "composefs/staged-deployment"), stagedFile);
    mkdirSync(join(machine.esp, "loader/entries.staged"));
    expect(finalizeStaged(running, running.world())).toEqual({ kind: "cleanup", id: b });
    expect(observe()).toEqual(done);
  });

  test("staging over half-written leftovers of every kind", async () => {
    writeScratchImage(imagePath, { version: "1" });
    await install();
    writeScratchImage(imagePath, { version: "2" });
    using running = machine.boot();
    const { id: b } = (await update(running)) as { id: string };
    const complete = observe();
    const paths = statePaths(machine.disk, b);
    rmSync(join(machine.run, "composefs"), { recursive: true });
    rmSync(paths.etc, { recursive: true });
    mkdirSync(join(paths.partial, "etc"), { recursive: true });
    rmSync(join(machine.esp, "EFI/Linux", `bootc_composefs-${b}`, "initrd"));
    writeFileSync(join(machine.esp, "loader/entries.staged/bootc_old-9-1.conf"), "title half");
    await update(running);
    expect(observe()).toEqual(complete);
    expect(existsSync(paths.etc)).toBe(true);
  });

  test("a failed staging leaves nothing, and keeps what was staged before", async () => {
    writeScratchImage(imagePath, { version: "1" });
    await install();
    using running = machine.boot();
    const before = observe();
    writeScratchImage(imagePath, { version: "2" });
    // The very last write fails.
    writeFileSync(join(machine.run, "composefs"), "");
    await expect(update(running)).rejects.toThrow("is not a directory");
    expect(observe()).toEqual({ ...before, tags: observe().tags });

    rmSync(join(machine.run, "composefs"));
    await update(running);
    const staged = observe();
    writeScratchImage(imagePath, { version: "3" });
    // The first file of the kernel cannot be written.
    const kernels = join(machine.esp, "EFI/Linux");
    renameSync(kernels, join(machine.esp, "EFI/kept"));
    writeFileSync(kernels, "");
    await expect(update(running)).rejects.toThrow();
    rmSync(kernels);
    renameSync(join(machine.esp, "EFI/kept"), kernels);
    expect(observe()).toEqual({ ...staged, tags: observe().tags });
  });
});
