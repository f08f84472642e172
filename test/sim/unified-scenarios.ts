// The scenarios of crash-scenarios.ts that concern unified kernels: each machine has addons of its image, one of its
// own, and one for every kernel, which have to be there whenever the deployment boots.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { addonDirectory } from "../../updater/boot/kernel-directory.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { installScratch } from "../support/scratch-install.ts";
import { assess, type RunningMachine } from "../support/scratch-machine.ts";
import { buildUki } from "../support/uki-builder.ts";
import { writeUnifiedImage } from "../support/unified-image.ts";
import { type CrashMachine, cleanUp, update } from "./crash-lab.ts";
import type { Scenario } from "./crash-scenarios.ts";

const SHARED_ADDON = "bootc-runtime.addon.efi";
const OWN_ADDON = "own.addon.efi";
const image = (images: string, version: string) => join(images, `sealed${version}`);

/** Sealed images beside those of `writeVersions`. */
export async function writeSealedVersions(directory: string, versions: readonly string[]) {
  for (const version of versions) {
    await writeUnifiedImage(image(directory, version), {
      version,
      cmdline: "composefs=?ID",
      etc: { file: version, [`only-${version}`]: version },
      addons: { "image.addon.efi": `image=${version}` },
      // Two versions have the same one.
      globalAddons: { [SHARED_ADDON]: version === "1" ? "one" : "two" },
    });
  }
}

function settle(running: RunningMachine): RunningMachine {
  assess(running, true);
  cleanUp(running);
  return running;
}

async function updateTo(machine: CrashMachine, running: RunningMachine, path: string) {
  await update(running, path, { allowWeakerTrust: true });
  finalizeStaged(running, running.world());
  running[Symbol.dispose]();
  return machine.boot(0, false);
}

/** Version 2 runs and has proved itself, 1 is behind it; both sealed. */
async function updated(machine: CrashMachine, images: string): Promise<RunningMachine> {
  await installScratch(machine, image(images, "1"), { rootMountSpec: "", kargs: [] });
  const running = await updateTo(machine, machine.boot(0, false), image(images, "2"));
  const own = join(machine.esp, addonDirectory(`bootc_composefs-${running.booted.id}`), OWN_ADDON);
  writeFileSync(own, buildUki([[".cmdline", "own"]]));
  return settle(running);
}

/** `path` of the image is the one to come to in the end. */
function finish(path: (images: string) => string): Scenario["finish"] {
  return async (machine, running, images) => {
    using next = await updateTo(machine, running, path(images));
    settle(next);
  };
}

async function stageAndFinalize(running: RunningMachine, path: string): Promise<void> {
  await update(running, path, { allowWeakerTrust: true });
  finalizeStaged(running, running.world());
}

const sealed = (images: string) => image(images, "3");
const plain = (images: string) => join(images, "os3");

export const UNIFIED_SCENARIOS: readonly Scenario[] = [
  {
    name: "sealed kernel: stage and finalize",
    prepare: updated,
    verb: (running, images) => stageAndFinalize(running, sealed(images)),
    finish: finish(sealed),
  },
  {
    name: "sealed kernel: from a plain one",
    prepare: async (machine, images) => {
      await installScratch(machine, join(images, "os2"));
      return settle(machine.boot(0, false));
    },
    verb: (running, images) => stageAndFinalize(running, sealed(images)),
    finish: finish(sealed),
  },
  {
    name: "sealed kernel: to a plain one",
    prepare: updated,
    verb: (running, images) => stageAndFinalize(running, plain(images)),
    finish: finish(plain),
  },
  {
    name: "sealed kernel: cleanup",
    prepare: async (machine, images) => {
      const running = await updateTo(machine, await updated(machine, images), sealed(images));
      assess(running, true);
      return running;
    },
    verb: cleanUp,
    finish: async (_machine, running) => cleanUp(running),
  },
];
