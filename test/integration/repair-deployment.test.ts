// What `bootc internals fsck --repair` does on a machine: deployments say what is needed and where it was
// got, and start again afterwards.

import { appendFileSync, readdirSync, renameSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { openImage } from "../../shared/store/images.ts";
import { checkUsers, listDeploymentUsers, listTagUsers } from "../../updater/deploy/image-users.ts";
import { type RepairResult, repairRepository } from "../../updater/image/repair.ts";
import type { ImageUser } from "../../updater/image/repair-source.ts";
import { openSource } from "../../updater/image/source.ts";
import { checkAll } from "../support/repair-scenario.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";

let machine: ScratchMachine;
let running: RunningMachine;
let imagePath: string;

beforeEach(async () => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
  writeScratchImage(imagePath, { version: "1", etc: { "a.conf": "x".repeat(100) } });
  await installScratch(machine, imagePath);
  running = machine.boot();
});
afterEach(() => {
  running[Symbol.dispose]();
  machine[Symbol.dispose]();
});

const listUsers = (): readonly ImageUser[] => [
  ...listDeploymentUsers(running.world()),
  ...listTagUsers(running.repo),
];

async function check(): Promise<readonly Finding[]> {
  return [...(await checkAll(running.repo)), ...checkUsers(running.repo, listUsers()).findings];
}

async function repair(): Promise<RepairResult> {
  const options = { users: listUsers(), source: null, open: openSource, check };
  return await repairRepository(running.repo, await check(), options);
}

const path = (name: string) => join(running.repo.path, name);
const starts = () => {
  openImage(running.repo, running.booted.id).fd.close();
  return true;
};

test("deployments and tags are users of the image", () => {
  const [deployment, tag] = listUsers();
  const { manifestDigest } = deployment!;
  expect(deployment).toEqual({
    label: `deployment ${running.booted.id.slice(0, 12)} (booted)`,
    manifestDigest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    reference: { transport: "oci", image: imagePath },
    deploymentId: running.booted.id,
  });
  expect(tag).toEqual({
    label: `tag "localhost/bootc-${manifestDigest}"`,
    manifestDigest,
    reference: null,
    deploymentId: null,
  });
});

const DAMAGE: readonly [string, () => void, readonly string[]][] = [
  [
    "its boot image is damaged",
    () => appendFileSync(path(`objects/${objectPath(running.booted.id)}`), "x"),
    ["build-image"],
  ],
  [
    "the name of its image is gone",
    () => unlinkSync(path(`images/${running.booted.id}`)),
    ["link-object"],
  ],
  [
    "the name and the image are gone",
    () => {
      unlinkSync(path(`images/${running.booted.id}`));
      unlinkSync(path(`objects/${objectPath(running.booted.id)}`));
    },
    ["build-image"],
  ],
  [
    "everything but its state is gone",
    () => {
      for (const directory of ["images", "streams", "objects"]) {
        renameSync(path(directory), join(machine.disk, `lost-${directory}`));
      }
    },
    ["fetch-documents", "build-image"],
  ],
];

test.each(DAMAGE)("%s", async (_name, harm, steps) => {
  expect([await check(), starts()]).toEqual([[], true]);
  harm();
  expect((await check()).length).toBeGreaterThan(0);
  const result = await repair();
  expect(result.remaining).toEqual([]);
  expect(result.steps.map(({ step }) => step.kind)).toEqual(steps);
  expect([await check(), starts()]).toEqual([[], true]);
  // The tag keeps all of it from the collector.
  const roots = [running.booted.id];
  expect(collectGarbage(running.repo, { roots, dryRun: false })).toMatchObject({ imagesPruned: 0 });
  expect([await check(), listTagUsers(running.repo).length]).toEqual([[], 1]);
});

test("the image moved on: the report says which deployment is in need", async () => {
  const [file] = readdirSync(path("objects"), { recursive: true })
    .map(String)
    .filter((name) => name.length > 100 && !name.includes(running.booted.id.slice(2)));
  writeScratchImage(imagePath, { version: "2" });
  for (const name of readdirSync(path("objects"), { recursive: true }).map(String)) {
    if (name.length > 100) appendFileSync(path(`objects/${name}`), "x");
  }
  const { remaining } = await repair();
  const about = remaining.find(({ finding }) => finding.path === `objects/${file}`)!;
  expect(about.neededBy.join()).toContain(`deployment ${running.booted.id.slice(0, 12)} (booted)`);
  expect(about.reason).toMatch(/It holds image sha256:[0-9a-f]{64} by now, not sha256:/);
  expect(about.advice).toContain("--source");
});
