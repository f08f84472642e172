// What the unified kernel of a deployment (unified-scenarios.ts) needs to start, found wanting.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { addonDirectory } from "../../updater/boot/kernel-directory.ts";
import { openUki } from "../../updater/boot/uki.ts";
import type { RunningMachine } from "../support/scratch-machine.ts";

/** What of a unified kernel is missing or wrong; its addons as the deployment needs them. */
export function findUnifiedFaults(
  { boot, world }: RunningMachine,
  path: string,
  id: string,
  version: string,
): readonly string[] {
  const parts: readonly (readonly [file: string, section: string, content: string])[] = [
    [path, ".linux", `kernel ${version}`.repeat(40)],
    [path, ".initrd", "initramfs ".repeat(50)],
    [`${addonDirectory(`bootc_composefs-${id}`)}/image.addon.efi`, ".cmdline", `image=${version}`],
    ...(world().states.find((state) => state.id === id)?.addons ?? []).map(
      (name) => [`loader/addons/${name}`, ".initrd", version === "1" ? "one" : "two"] as const,
    ),
  ];
  return parts.flatMap(([file, section, content]) => {
    if (!existsSync(join(boot.path, file))) return [`${file} is missing`];
    try {
      using program = openUki(join(boot.path, file));
      const found = Buffer.concat(
        [...program.readChunks(section)].map((each) => Buffer.from(each)),
      );
      return found.toString() === content ? [] : [`${file} is wrong`];
    } catch (error) {
      return [`${file}: ${(error as Error).message}`];
    }
  });
}
