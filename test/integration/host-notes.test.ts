// What a machine tells about itself while it is updated, on a machine in a directory: the Host document with the
// cached update, /run/reboot-required, the watched directory, journal records, what is followed, what is retained.

import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import * as z from "zod";
import { applyCleanup } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { noteFinalizeBegun } from "../../updater/deploy/finalize-failure.ts";
import {
  applyFollow,
  findInstalledDeployment,
  findNextDeployment,
  planFollow,
} from "../../updater/deploy/follow.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { listTaggedManifests, listTags, retainImage } from "../../updater/deploy/image-tag.ts";
import { applyKargs } from "../../updater/deploy/kargs.ts";
import { type KargsEdits, parseEdits } from "../../updater/deploy/kargs-edit.ts";
import { planKargs } from "../../updater/deploy/kargs-plan.ts";
import { isRebootNoted, notePending } from "../../updater/deploy/pending.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { setStagedLock } from "../../updater/deploy/stage.ts";
import { noteStartedArguments } from "../../updater/deploy/started-arguments.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { EVENTS } from "../../updater/journal/events.ts";
import { parseHost } from "../../updater/spec/host.ts";
import { makeHost } from "../../updater/spec/make-host.ts";
import { JournalSocket } from "../support/journal-socket.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { assess, type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";
import { ROOT as PROJECT } from "../support/source-tree.ts";

const NO_EDITS: KargsEdits = {
  delete: [],
  deleteIfPresent: [],
  replace: [],
  append: [],
  appendIfMissing: [],
};

let machine: ScratchMachine;
let imagePath: string;
let installed: string;
beforeEach(async () => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
  writeScratchImage(imagePath, { version: "1" });
  installed = (await installScratch(machine, imagePath)).id;
});
afterEach(() => machine[Symbol.dispose]());

const reference = (path = imagePath) => makeImageReference("oci", path);

const update = (running: RunningMachine, changes: Partial<UpdateRequest> = {}) =>
  updateScratch(running, imagePath, changes);

const published = z.fromJSONSchema(
  JSON.parse(readFileSync(join(PROJECT, "test/vectors/bootc/host-v1.schema.json"), "utf8")),
);

/** Each document is one that bootc's schema and ours allow. */
function statusOf(running: RunningMachine) {
  const host = makeHost(makeHostState(running.system, running.repo, running.world()));
  const document = JSON.parse(JSON.stringify(host));
  expect(published.safeParse(document).error?.issues ?? []).toEqual([]);
  expect(parseHost(document)).toEqual(document);
  return host.status;
}
const note = (running: RunningMachine) => notePending(running.system, running.boot, running.booted);
const readNote = () => {
  const path = join(machine.run, "reboot-required");
  return existsSync(path) ? readFileSync(path, "utf8") : null;
};

describe("the cached update", () => {
  test("is there from the check on, until it runs", async () => {
    using running = machine.boot();
    expect(statusOf(running).booted?.cachedUpdate).toBeNull();
    await update(running, { checkOnly: true });
    expect(statusOf(running).booted?.cachedUpdate).toBeNull();

    const digest = writeScratchImage(imagePath, { version: "2" });
    await update(running, { checkOnly: true });
    expect(statusOf(running).booted?.cachedUpdate).toMatchObject({
      image: { transport: "oci", image: imagePath },
      version: "2",
      imageDigest: digest,
    });

    await update(running);
    const { booted, staged } = statusOf(running);
    expect(booted?.cachedUpdate?.imageDigest).toBe(digest);
    expect(staged).toMatchObject({ cachedUpdate: null, image: { imageDigest: digest } });
    finalizeStaged(running, running.world());
    using next = machine.boot();
    const after = statusOf(next);
    expect(after.booted?.cachedUpdate).toBeNull();
    expect(after.rollback?.cachedUpdate).toBeNull();
  });

  test("is of the reference that is followed: a dry run, another tag and a switch leave nothing", async () => {
    using running = machine.boot();
    writeScratchImage(imagePath, { version: "2" });
    await update(running, { checkOnly: true, dryRun: true });
    expect(statusOf(running).booted?.cachedUpdate).toBeNull();
    await update(running, { checkOnly: true, isExcursion: true });
    expect(statusOf(running).booted?.cachedUpdate).toBeNull();
    await update(running, { checkOnly: true });
    expect(statusOf(running).booted?.cachedUpdate?.version).toBe("2");
    applyFollow(planFollow(machine.disk, installed, reference("/elsewhere/os.oci")));
    expect(statusOf(running).booted?.cachedUpdate).toBeNull();
  });
});

describe("what waits for a restart", () => {
  test("a staged update; not one that is only downloaded; not one that a rollback gave up", async () => {
    const digest = writeScratchImage(imagePath, { version: "2" });
    const ours = `bootc: Reboot required for image: ${digest}\n`;
    let id: string;
    {
      using running = machine.boot();
      expect(note(running)).toBeNull();
      expect(readNote()).toBeNull();
      const outcome = await update(running, { downloadOnly: true });
      id = (outcome as { id: string }).id;
      note(running);
      expect(readNote()).toBeNull();
      setStagedLock(running.system, id, false);
      expect(note(running)).toEqual({ id, manifestDigest: digest });
      expect(readNote()).toBe(ours);
      expect(isRebootNoted(running.system)).toBe(true);
      expect(statSync(join(machine.run, "reboot-required")).mode & 0o777).toBe(0o644);
      finalizeStaged(running, running.world());
    }
    using running = machine.boot();
    expect(note(running)).toBeNull();
    applyRollback(running, planRollback(running.world()));
    expect(note(running)?.id).toBe(installed);
    expect(readNote()).toMatch(/^bootc: Reboot required for image: sha256:/);
    applyRollback(running, planRollback(running.world()));
    expect(note(running)).toBeNull();
    expect(readNote()).toBeNull();
  });

  test("changed kernel arguments, until they are taken back; a later boot knows nothing of it", () => {
    const change = (running: RunningMachine, edits: Partial<KargsEdits>) => {
      const world = running.world();
      const edit = parseEdits({ ...NO_EDITS, ...edits });
      const plan = planKargs(world, ({ options, extra }) => ({ options: edit(options), extra }));
      noteStartedArguments(running.system, world);
      applyKargs(running, plan, world.stagedFile);
      note(running);
    };
    {
      using running = machine.boot();
      // What a person typed into the boot menu is no difference.
      const system = { ...running.system, cmdline: `${running.system.cmdline} debug` };
      const typed = { ...running, system };
      note(typed);
      expect(readNote()).toBeNull();
      change(typed, { append: ["quiet"] });
      const { manifestDigest } = running.world().states[0]!.origin!;
      expect(readNote()).toBe(
        `bootc: Reboot required for kernel arguments of image: ${manifestDigest}\n`,
      );
      change(typed, { append: ["splash"] });
      change(typed, { delete: ["quiet"] });
      expect(readNote()).not.toBeNull();
      change(typed, { delete: ["splash"] });
      expect(readNote()).toBeNull();
      change(typed, { append: ["quiet"] });
    }
    using running = machine.boot();
    note(running);
    expect(readNote()).toBeNull();
  });

  test("what another program noted is left alone", async () => {
    using running = machine.boot();
    const path = join(machine.run, "reboot-required");
    writeFileSync(path, "*** System restart required ***\n");
    writeScratchImage(imagePath, { version: "2" });
    await update(running);
    note(running);
    expect(readNote()).toBe("*** System restart required ***\n");
  });

  test("the watched directory is touched, and made where it was missing", () => {
    using running = machine.boot();
    const link = join(machine.disk, "ostree/bootc");
    utimesSync(link, new Date(0), new Date(0));
    note(running);
    expect(statSync(link).mtimeMs).toBeGreaterThan(0);
  });

  test("something else in its place fails no verb", () => {
    using running = machine.boot();
    rmSync(join(machine.disk, "composefs/bootc"), { recursive: true, force: true });
    writeFileSync(join(machine.disk, "composefs/bootc"), "");
    rmSync(join(machine.disk, "ostree"), { recursive: true });
    note(running);
    writeFileSync(join(machine.disk, "ostree"), "");
    note(running);
  });
});

describe("an update that shutdown could not apply", () => {
  const recordFile = () => join(machine.disk, "state/bootc/finalize-failed.json");
  const problemsOf = (running: RunningMachine) => statusOf(running).problems ?? [];

  /** Version 2 is staged, and its kernel goes before it is applied. */
  async function failToApply(): Promise<string> {
    writeScratchImage(imagePath, { version: "2", kernel: "another" });
    using running = machine.boot();
    const { id } = (await update(running)) as { id: string };
    const [staged] = running.world().staged!;
    rmSync(join(machine.esp, "EFI/Linux", staged!.artefact!), { recursive: true });
    using journal = new JournalSocket(machine.run);
    expect(() => finalizeStaged(running, running.world())).toThrow("has no kernel");
    expect(journal.take()).toMatchObject([
      { MESSAGE_ID: EVENTS.finalizeFailed.id, BOOTC_DEPLOYMENT: id },
    ]);
    return id;
  }

  test("is told by the next start when finalizing was cut off, too", async () => {
    writeScratchImage(imagePath, { version: "2" });
    let id: string;
    {
      using running = machine.boot();
      ({ id } = (await update(running)) as { id: string });
      noteFinalizeBegun(running.system, id, new Date());
      expect(problemsOf(running)).toEqual([
        expect.stringMatching(/the next shutdown tries again$/),
      ]);
    }
    {
      using running = machine.boot();
      expect(running.booted.id).toBe(installed);
      expect(problemsOf(running)).toEqual([
        expect.stringMatching(
          `^Deployment ${id.slice(0, 12)} was not applied at 20.*cut off.*journalctl.*"bootc upgrade"`,
        ),
      ]);
      await update(running);
      finalizeStaged(running, running.world());
      expect(existsSync(recordFile())).toBe(false);
      // As when the power goes after the exchange.
      noteFinalizeBegun(running.system, id, new Date());
    }
    using next = machine.boot(0, false);
    expect(next.booted.id).toBe(id);
    expect(problemsOf(next)).toEqual([]);
    assess(next, true);
    expect(existsSync(recordFile())).toBe(false);
  });

  test("is told by the next start with the reason, until it is applied", async () => {
    const id = await failToApply();
    using running = machine.boot();
    expect(problemsOf(running)).toEqual([
      expect.stringMatching(
        `^Deployment ${id.slice(0, 12)} was not applied at 20.*has no kernel in.*"bootc upgrade"`,
      ),
    ]);
    await update(running);
    expect(problemsOf(running)).toEqual([
      expect.stringMatching(/it is staged, and the next shutdown tries again$/),
    ]);
    finalizeStaged(running, running.world());
    expect(existsSync(recordFile())).toBe(false);
    using next = machine.boot();
    expect(next.booted.id).toBe(id);
    expect(statusOf(next).problems).toBeUndefined();
  });

  test("is no news once it was cleaned away, nor is a note that nobody understands", async () => {
    await failToApply();
    using running = machine.boot();
    writeScratchImage(imagePath, { version: "3" });
    await update(running);
    applyCleanup(running, planCleanup(running.world(), { tags: [], kernelsOnly: false }), {
      dryRun: false,
    });
    expect(problemsOf(running)).toEqual([]);
    expect(existsSync(recordFile())).toBe(true);
    for (const text of ["", "{}", "[", '{"id":1}']) {
      writeFileSync(recordFile(), text);
      expect(problemsOf(running)).toEqual([]);
    }
  });
});

describe("records in the journal", () => {
  test("an upgrade, a check, a switch; nothing of a dry run", async () => {
    const digest = writeScratchImage(imagePath, { version: "2" });
    using running = machine.boot();
    using journal = new JournalSocket(machine.run);
    const ids = () => journal.take().map((record) => record["MESSAGE_ID"]);
    await update(running, { dryRun: true });
    expect(ids()).toEqual([]);
    await update(running, { checkOnly: true });
    expect(ids()).toEqual([EVENTS.updateAvailable.id]);
    const { id } = (await update(running)) as { id: string };
    const upgraded = journal.take();
    const { pulled, staged, switched, upgraded: upgrade } = EVENTS;
    expect(upgraded.map((record) => record["MESSAGE_ID"])).toEqual(
      expect.arrayContaining([pulled.id, staged.id, upgrade.id]),
    );
    expect(upgraded[0]).toMatchObject({
      BOOTC_IMAGE: `ostree-unverified-image:oci:${imagePath}`,
      BOOTC_DIGEST: digest,
      BOOTC_VERSION: "2",
      BOOTC_DEPLOYMENT: id,
      BOOTC_FETCHED_BYTES: expect.stringMatching(/^\d+$/),
    });
    await update(running);
    expect(ids()).toEqual([]);

    const other = join(machine.directory, "other.oci");
    writeScratchImage(other, { version: "3" });
    await update(running, { kind: "switch", reference: reference(other) });
    const last = journal.take().find((record) => record["MESSAGE_ID"] === switched.id);
    expect(last).toMatchObject({
      BOOTC_IMAGE: `ostree-unverified-image:oci:${other}`,
      BOOTC_PREVIOUS_IMAGE: `ostree-unverified-image:oci:${imagePath}`,
    });
  });
});

describe("what is followed", () => {
  test("changes for the deployment that boots next, and for it alone", async () => {
    writeScratchImage(imagePath, { version: "2" });
    using running = machine.boot();
    expect(findNextDeployment(running.world())).toBe(installed);
    const { id } = (await update(running)) as { id: string };
    expect(findNextDeployment(running.world())).toBe(id);
    const to = { ...makeImageReference("registry", "quay.io/os:1"), signature: "containerPolicy" };
    const plan = planFollow(machine.disk, id, to as Parameters<typeof planFollow>[2]);
    expect(plan).toMatchObject({
      previous: `ostree-unverified-image:oci:${imagePath}`,
      reference: "ostree-image-signed:docker://quay.io/os:1",
    });
    expect(statusOf(running).staged?.image?.image.image).toBe(imagePath);
    applyFollow(plan);
    expect(statusOf(running).staged?.image?.image).toEqual({
      image: "quay.io/os:1",
      transport: "registry",
      signature: "containerPolicy",
    });
    expect(statusOf(running).booted?.image?.image.image).toBe(imagePath);
    expect(statSync(plan.path).mode & 0o777).toBe(0o644);
  });

  test("what else the origin says stays", () => {
    const { path } = planFollow(machine.disk, installed, reference());
    const before = readFileSync(path, "utf8");
    writeFileSync(path, `${before}[custom]\nkey=value\n`);
    applyFollow(planFollow(machine.disk, installed, reference("/new")));
    expect(readFileSync(path, "utf8")).toBe(
      `${before.replace(imagePath, "/new")}[custom]\nkey=value\n`,
    );
  });

  test("on a disk that does not run it is the newest deployment", async () => {
    writeScratchImage(imagePath, { version: "2" });
    using running = machine.boot();
    const { id } = (await update(running)) as { id: string };
    const deploy = join(machine.disk, "state/deploy");
    utimesSync(join(deploy, installed), new Date(0), new Date(0));
    expect(findInstalledDeployment(machine.disk)).toBe(id);
    utimesSync(join(deploy, id), new Date(-1000), new Date(-1000));
    expect(findInstalledDeployment(machine.disk)).toBe(installed);
    expect(() => findInstalledDeployment(machine.esp)).toThrow("There is no deployment in");
  });
});

/** Every deployment is known to start. */
function bless() {
  const entries = join(machine.esp, "loader/entries");
  for (const name of readdirSync(entries)) {
    renameSync(join(entries, name), join(entries, name.replace(/\+[0-9-]+(?=\.conf$)/, "")));
  }
}

test("a retained image survives its deployment", async () => {
  let first: string;
  {
    using running = machine.boot();
    first = statusOf(running).booted!.image!.imageDigest;
    retainImage(running.repo, "quay.io/os:1", first);
    writeScratchImage(imagePath, { version: "2" });
    await update(running);
    finalizeStaged(running, running.world());
  }
  bless();
  writeScratchImage(imagePath, { version: "3" });
  {
    using running = machine.boot();
    await update(running);
    finalizeStaged(running, running.world());
  }
  using running = machine.boot();
  const plan = planCleanup(running.world(), { tags: listTags(running.repo), kernelsOnly: false });
  applyCleanup(running, plan, { dryRun: false });
  expect(running.world().states.map(({ id }) => id)).not.toContain(installed);
  expect(listTaggedManifests(running.repo)).toContainEqual({
    tag: "quay.io/os:1",
    manifestDigest: first,
  });
});
