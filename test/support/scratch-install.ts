// Installing a scratch image to a scratch machine, as `bootc install to-filesystem` would.

import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import {
  type InstallRequest,
  installToFilesystem,
  prepareInstall,
} from "../../updater/install/to-filesystem.ts";
import type { ScratchMachine } from "./scratch-machine.ts";

export async function installScratch(
  machine: ScratchMachine,
  imagePath: string,
  changes: Partial<InstallRequest> = {},
) {
  const reference = makeImageReference("oci", imagePath);
  const request: InstallRequest = {
    target: machine.disk,
    source: openSource(reference),
    sourceReference: reference,
    targetReference: reference,
    rootMountSpec: "UUID=1234",
    bootMountSpec: null,
    kargs: ["console=ttyS0"],
    kargDeletes: [],
    allowMissingVerity: true,
    bootloader: "none",
    genericImage: true,
    skipFinalize: true,
    ...changes,
  };
  using preparation = await prepareInstall(machine.system(), request);
  return await installToFilesystem(request, preparation, {
    onProgress: () => {},
    onStep: () => {},
  });
}
