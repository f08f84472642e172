// `bootc install to-filesystem` (bootc.md 9.1, 9.4).

import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { UsageError } from "../../shared/error.ts";
import { formatCmdline } from "../../shared/format/kargs/cmdline.ts";
import { readSystem } from "../boot/system.ts";
import {
  displayReference,
  type ImageReference,
  makeImageReference,
  parseTransportReference,
} from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { readInstallConfig } from "../install/install-config.ts";
import { mergeInstallOptions } from "../install/install-options.ts";
import { describeRootDiscovery } from "../install/install-plan.ts";
import { findPartitionType } from "../install/target.ts";
import {
  type InstallPreparation,
  type InstallRequest,
  installToFilesystem,
  prepareInstall,
} from "../install/to-filesystem.ts";
import { absoluteReference } from "./absolute-reference.ts";
import { makePrintConfigurationCommand } from "./install-configuration.ts";
import { formatPlan } from "./plan-text.ts";
import { enterPrivateMounts } from "./private-mounts.ts";
import { makeObserver, makeProgressOption } from "./progress.ts";
import { acquireVerbLock, requireRoot } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeInstallCommand(terminal: Terminal) {
  return new Command("install")
    .description("Install an image to a disk")
    .addCommand(makeToFilesystemCommand(terminal))
    .addCommand(makePrintConfigurationCommand(terminal));
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

function makeToFilesystemCommand(terminal: Terminal) {
  return new Command("to-filesystem")
    .description("Install to a mounted, empty file system")
    .argument("<root-path>", "where the file system is mounted")
    .requiredOption("--source-imgref <reference>", "image to install, e.g. oci:/path")
    .option("--target-imgref <name>", "image to follow afterwards; default: the source")
    .option("--target-transport <transport>", "transport of --target-imgref", "registry")
    .option("--enforce-container-sigpolicy", "refuse images that policy.json does not cover")
    .addOption(new Option("--target-no-signature-verification").hideHelp())
    .option("--karg <argument>", "kernel argument; may be repeated", collect, [])
    .option("--karg-delete <argument>", "one to leave out; may be repeated", collect, [])
    .option(
      "--uki-addon <name>",
      "addon of the image's unified kernel to install; may be repeated; default: all",
      collect,
      [],
    )
    .option("--disable-selinux", "turn SELinux off in the installed system, with selinux=0")
    .option("--root-mount-spec <spec>", 'value of root=; default: UUID=…, "" for none')
    .option("--boot-mount-spec <spec>", "partition to mount on /boot")
    .option("--stateroot <name>", 'name of the state that /var belongs to: "default"')
    .addOption(
      new Option(
        "--bootloader <name>",
        "boot loader to install; default: as bootc/install/*.toml says, else systemd",
      ).choices(["systemd", "none"] as const),
    )
    .option("--composefs-backend", "accepted for bootc's sake: it is the only backend")
    .option("--allow-missing-verity", "install to a file system without fs-verity")
    .option("--generic-image", "do not change this machine's EFI variables")
    .option("--skip-finalize", "leave the file system writable and untrimmed")
    .option("--acknowledge-destructive", "accepted for bootc's sake")
    .addOption(new Option("--skip-fetch-check").hideHelp())
    .option("--quiet", "no progress")
    .addOption(makeProgressOption())
    .option("--dry-run", "check everything, then only print what would be installed, as JSON")
    .action(async (rootPath, options) => {
      const given = {
        kargs: [...options.karg, ...(options.disableSelinux === true ? ["selinux=0"] : [])],
        kargDeletes: options.kargDelete,
        rootMountSpec: options.rootMountSpec ?? null,
        bootMountSpec: options.bootMountSpec ?? null,
        bootloader: options.bootloader ?? null,
        stateroot: options.stateroot ?? null,
        enforceSigpolicy: options.enforceContainerSigpolicy ?? null,
      };
      const merged = mergeInstallOptions(given, readInstallConfig("/"));
      const reference = demandSignature(
        absoluteReference(parseTransportReference(options.sourceImgref)),
        merged.enforceSigpolicy,
      );
      await using source = openSource(reference);
      const request = {
        target: absolutePath(rootPath),
        source,
        sourceReference: reference,
        targetReference: chooseTarget(reference, options.targetImgref, options.targetTransport),
        ...merged,
        given,
        ukiAddons: options.ukiAddon,
        allowMissingVerity: options.allowMissingVerity === true,
        genericImage: options.genericImage === true,
        skipFinalize: options.skipFinalize === true,
      };
      await install(terminal, request, {
        dryRun: options.dryRun === true,
        progress: { quiet: options.quiet === true, progressFd: options.progressFd },
      });
    });
}

interface InstallOptions {
  readonly dryRun: boolean;
  readonly progress: Parameters<typeof makeObserver>[1];
}

async function install(
  terminal: Terminal,
  request: InstallRequest,
  { dryRun, progress }: InstallOptions,
): Promise<void> {
  requireRoot();
  enterPrivateMounts();
  const system = { ...readSystem(), physicalRoot: request.target };
  using _lock = acquireVerbLock(system);
  using preparation = await prepareInstall(system, request);
  if (dryRun) {
    terminal.write(formatPlan(describeInstall(request, preparation)));
    return;
  }
  terminal.line(`Installing image: ${displayReference(request.sourceReference)}`);
  terminal.line(`Digest: ${preparation.resolved.manifestDigest}`);
  using observer = makeObserver(terminal, progress);
  const plan = await installToFilesystem(request, preparation, observer);
  terminal.line(`Deployment: ${plan.id}`);
  const isUnified = plan.kernel.kind === "uki";
  const partitionType = isUnified ? findPartitionType(system, request.target) : null;
  const discovery = describeRootDiscovery(plan, partitionType, process.arch);
  if (discovery !== null) terminal.line(discovery);
  terminal.line("Installation complete!");
}

function demandSignature(reference: ImageReference, isDemanded: boolean): ImageReference {
  return isDemanded ? { ...reference, signature: "containerPolicy" } : reference;
}

/** As the mount table names it; a path that does not exist is refused later, with a better message. */
function absolutePath(path: string): string {
  // Else an unset variable in a script would mean the current directory.
  if (path === "") throw new UsageError("missing", "The path to install to is empty");
  return existsSync(path) ? realpathSync(path) : resolve(path);
}

function describeInstall(request: InstallRequest, preparation: InstallPreparation): object {
  return {
    kind: "install",
    target: request.target,
    bootPath: preparation.boot.path,
    bootloader: request.bootloader,
    image: displayReference(request.targetReference),
    manifestDigest: preparation.resolved.manifestDigest,
    kargs: formatCmdline(preparation.kargs),
    kargDeletes: formatCmdline(preparation.kargDeletes),
    verityOptional: request.allowMissingVerity,
  };
}

function chooseTarget(
  source: ImageReference,
  name: string | undefined,
  transport: string,
): ImageReference {
  if (name !== undefined) {
    const { signature } = source;
    const target = absoluteReference(makeImageReference(transport, name));
    return signature === undefined ? target : { ...target, signature };
  }
  if (transport !== "registry") {
    throw new UsageError("missing", "--target-transport needs --target-imgref");
  }
  return source;
}
