// `bootc internals cfs`, also as a program called cfsctl: what composefs-rs' cfsctl does with a repository,
// with its verbs, options and output (composefs-rs.md 7). Needs no booted system.
//
// Not here: copying between repositories, prepare-boot (bootc itself does it), ostree, varlink and FUSE.

import { Argument, Command, Option } from "@commander-js/extra-typings";
import type { GarbageReport } from "../../shared/store/gc.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { computeImageId } from "../image/boot-image.ts";
import { dropDownloads } from "../image/kept-downloads.ts";
import { readNamedConfig } from "../image/named-image.ts";
import { makeDirectoryCommands } from "./cfs-directory.ts";
import { makeFsckCommand } from "./cfs-fsck.ts";
import { makeImageCommands } from "./cfs-image.ts";
import { makeInitCommand } from "./cfs-init.ts";
import { makeCatCommand } from "./cfs-layer.ts";
import { makeOciCommand } from "./cfs-oci.ts";
import { type CfsOptions, type OptionsOf, openChosenRepository } from "./cfs-repository.ts";
import type { Terminal } from "./terminal.ts";

export function makeCfsCommand(terminal: Terminal) {
  const cfs = new Command("cfs")
    .description("Work on a composefs repository as cfsctl does")
    .option("--repo <directory>", "the repository")
    .option("--no-repo", "work without one: for verbs that only compute")
    .addOption(new Option("--user", "the repository below the home directory").conflicts("repo"))
    .addOption(new Option("--system", "the system's repository").conflicts(["repo", "user"]))
    .addOption(
      new Option("--hash <algorithm>", "what the repository must use").choices([
        "sha256",
        "sha512",
      ] as const),
    )
    .addOption(
      new Option("--erofs-version <version>", "format of images made now").choices([
        "0",
        "1",
        "2",
      ] as const),
    )
    .option("--insecure", "do without fs-verity even if the repository has it")
    .option("--require-verity", "refuse a repository that does without fs-verity")
    .option("--no-upgrade", "refuse a repository from before meta.json instead of adding it")
    .enablePositionalOptions();
  const optionsOf: OptionsOf = () => cfs.opts() as CfsOptions;
  cfs.addCommand(makeInitCommand(terminal, optionsOf));
  for (const command of makeImageCommands(terminal, optionsOf)) cfs.addCommand(command);
  for (const command of makeDirectoryCommands(terminal, optionsOf)) cfs.addCommand(command);
  return cfs
    .addCommand(makeGcCommand(terminal, optionsOf))
    .addCommand(makeFsckCommand(terminal, optionsOf))
    .addCommand(makeCatCommand(optionsOf))
    .addCommand(makeOciCommand(terminal, optionsOf))
    .addCommand(makeIdCommand(terminal, optionsOf));
}

/** What a collection did, in lines. */
export function formatGarbage(report: GarbageReport, dryRun: boolean): string[] {
  const { objectsRemoved, objectsBytes, imagesPruned, streamsPruned } = report;
  return [
    ...(dryRun ? ["Dry run (no files deleted):"] : []),
    `Objects: ${objectsRemoved} removed (${objectsBytes} bytes)`,
    ...(imagesPruned + streamsPruned > 0
      ? [`Pruned symlinks: ${imagesPruned} images, ${streamsPruned} streams`]
      : []),
  ];
}

function makeGcCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("gc")
    .description("Remove everything that no reference leads to")
    .option("-r, --root <name...>", "images and streams to keep besides")
    .option("-n, --dry-run", "only say what would be removed")
    .action(({ root, dryRun }) => {
      using repo = openChosenRepository(optionsOf());
      const options = { roots: root ?? [], dryRun: dryRun === true };
      if (!options.dryRun) dropDownloads(repo);
      const report = collectGarbage(repo, options);
      for (const line of formatGarbage(report, options.dryRun)) terminal.line(line);
    });
}

/** Not cfsctl's; `oci compute-id` is. */
function makeIdCommand(terminal: Terminal, optionsOf: OptionsOf) {
  return new Command("image").description("Work on the image of a tag").addCommand(
    new Command("id")
      .description("Compute the id of the EROFS image")
      .addArgument(new Argument("<image>", "tag, or @ and the digest of a manifest"))
      .option("--bootable", "of the one that boots, which is the deployment's id")
      .action(async (image, { bootable }) => {
        using repo = openChosenRepository(optionsOf());
        const { config } = readNamedConfig(repo, image);
        const options = { bootable: bootable === true };
        terminal.line(await computeImageId(repo, config.rootfs.diff_ids, options));
      }),
  );
}
