// `bootc install to-filesystem`: an image becomes a bootable system on a mounted, empty file system
// (bootc.md 9.4, 9.7).
//
// Order: every check that needs no writing; repository, image, boot loader, kernel and state, which
// nothing boots yet; the boot entry last. When anything fails, all of it is taken away again.

import { join } from "node:path";
import type { Cmdline } from "../../shared/format/kargs/cmdline.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { mkdiratIfMissing, removeTree } from "../../shared/sys/directory.ts";
import { symlinkat } from "../../shared/sys/link.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { LIVE_ENTRIES, readEntryDirectory } from "../boot/entry-directory.ts";
import { type BootDirectory, openTargetBootDirectory } from "../boot/esp.ts";
import {
  KERNEL_PARENT,
  listKernelDirectories,
  readKernelDirectories,
} from "../boot/kernel-directory.ts";
import type { System } from "../boot/system.ts";
import { requireBootctl } from "../boot/systemd-boot.ts";
import { requireSpace, writeState } from "../deploy/deployment-state.ts";
import { requireEtc } from "../deploy/image-tree.ts";
import {
  computeBootDigest,
  copyKernelSteps,
  kernelFiles,
  kernelSizeBytes,
} from "../deploy/kernel-source.ts";
import { pullBootImage, type UpdateObserver } from "../deploy/update.ts";
import type { BootImage } from "../image/boot-image.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { BOOTCTL_ROOT, installBootloader, setLoaderTimeout } from "./bootloader.ts";
import { settleFileSystem, syncFileSystem } from "./disk-settlement.ts";
import { type InstallPlan, planInstall, rootArguments } from "./install-plan.ts";
import { checkTarget, checkVerity, findRootSpec } from "./target.ts";

const ALGORITHM = "sha512";
/** What an installation makes in the target, and takes away when it fails. */
const TOP_DIRECTORIES = ["composefs", "state", "ostree", BOOTCTL_ROOT];

export interface InstallRequest {
  /** Absolute path of a mount point. */
  readonly target: string;
  readonly source: ImageSource;
  /** Where the installed system will look for updates. */
  readonly targetReference: ImageReference;
  /** Null: the UUID of the target; "": none. */
  readonly rootMountSpec: string | null;
  readonly bootMountSpec: string | null;
  readonly kargs: readonly string[];
  readonly allowMissingVerity: boolean;
  readonly bootloader: "systemd" | "none";
  readonly genericImage: boolean;
  readonly skipFinalize: boolean;
}

/** What was found out before anything is written. Holds the boot partition. */
export interface InstallPreparation extends Disposable {
  readonly resolved: ResolvedImage;
  /** Kernel arguments but those of the image. */
  readonly kargs: Cmdline;
  readonly boot: BootDirectory;
}

/** Every check that needs no writing. `system` is the machine that installs, not the target. */
export async function prepareInstall(
  system: System,
  request: InstallRequest,
): Promise<InstallPreparation> {
  const { target } = request;
  const mount = checkTarget(system, target);
  if (!request.allowMissingVerity) checkVerity(target, mount, ALGORITHM);
  if (request.bootloader === "systemd") requireBootctl();
  const kargs = rootArguments({
    rootSpec: request.rootMountSpec ?? findRootSpec(mount),
    bootSpec: request.bootMountSpec,
    kargs: request.kargs,
  });
  const resolved = await request.source.resolve();
  const layersBytes = resolved.manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  requireSpace(target, layersBytes, `"${request.source.name}"`);
  const boot = openTargetBootDirectory(system, target);
  return { resolved, kargs, boot, [Symbol.dispose]: () => boot[Symbol.dispose]() };
}

/** Installs what `prepareInstall` looked at; returns what was installed. */
export async function installToFilesystem(
  request: InstallRequest,
  preparation: InstallPreparation,
  observer: UpdateObserver,
): Promise<InstallPlan> {
  const { boot } = preparation;
  const before = listBootFiles(boot.path);
  let plan: InstallPlan;
  try {
    plan = await writeInstallation(request, preparation, observer);
  } catch (error) {
    undoInstall(request.target, boot.path, before);
    throw error;
  }
  if (!request.skipFinalize) settleFileSystem(request.target);
  return plan;
}

async function writeInstallation(
  request: InstallRequest,
  { resolved, kargs, boot }: InstallPreparation,
  observer: UpdateObserver,
): Promise<InstallPlan> {
  using repo = createRepository(request.target, request.allowMissingVerity);
  const image = await pullBootImage(repo, request.source, resolved, observer);
  const plan = planInstall({
    image: {
      id: image.deploymentId,
      manifestDigest: resolved.manifestDigest,
      originReference: formatOriginReference(request.targetReference),
      osRelease: image.osRelease,
      kargs: image.kargsD,
      bootDigest: computeBootDigest(repo, kernelFiles(image)),
    },
    kargs,
    kernels: readKernelDirectories(boot.path),
    verityOptional: request.allowMissingVerity,
  });
  applyInstall({ request, repo, boot, image, plan, observer });
  return plan;
}

function undoInstall(target: string, bootPath: string, before: ReadonlySet<string>): void {
  try {
    for (const name of TOP_DIRECTORIES) removeTree(null, join(target, name));
    for (const path of listBootFiles(bootPath)) if (!before.has(path)) removeTree(null, path);
  } catch {
    // The first error is the one to report.
  }
}

function createRepository(target: string, insecure: boolean): Repository {
  const repo = ensureRepository(null, join(target, "composefs"), {
    algorithm: ALGORITHM,
    secure: !insecure,
  });
  // Where bootc's container storage and ostree's tools look.
  mkdiratIfMissing(null, join(target, "ostree"), 0o755);
  symlinkat("../composefs/bootc", null, join(target, "ostree/bootc"));
  return repo;
}

interface Installation {
  readonly request: InstallRequest;
  readonly repo: Repository;
  readonly boot: BootDirectory;
  readonly image: BootImage;
  readonly plan: InstallPlan;
  readonly observer: UpdateObserver;
}

function applyInstall(installation: Installation): void {
  const { request, repo, boot, image, plan, observer } = installation;
  const { target } = request;
  const files = kernelFiles(image);
  if (plan.kernel.write)
    requireSpace(boot.path, kernelSizeBytes(files), "the kernel and initramfs");
  if (request.bootloader === "systemd") {
    observer.onStep("Installing systemd-boot");
    applyTransaction(setLoaderTimeout(boot.path));
    installBootloader({
      repo,
      image,
      target,
      bootPath: boot.path,
      genericImage: request.genericImage,
    });
  }
  observer.onStep("Writing the deployment");
  writeState(repo, target, {
    id: plan.id,
    etc: requireEtc(image.tree, plan.id),
    var: lookupDirectory(image.tree, "var"),
    origin: plan.origin,
  });
  syncFileSystem(target);
  const entries = join(boot.path, LIVE_ENTRIES);
  applyTransaction({
    prepare: [
      ...(plan.kernel.write
        ? copyKernelSteps(target, boot.path, plan.kernel.directory, files)
        : []),
      { kind: "mkdir", path: join(boot.path, "loader"), mode: 0o755 },
      { kind: "mkdir", path: entries, mode: 0o755 },
    ],
    commit: {
      kind: "write",
      path: join(entries, plan.entry.fileName),
      bytes: Buffer.from(plan.entry.text),
      mode: 0o644,
    },
    cleanup: [],
  });
  syncFileSystem(boot.path);
}

/** Paths of the kernel directories and entries on the boot partition. */
function listBootFiles(bootPath: string): ReadonlySet<string> {
  const kernels = listKernelDirectories(bootPath).map((name) =>
    join(bootPath, KERNEL_PARENT, name),
  );
  const entries = readEntryDirectory(join(bootPath, LIVE_ENTRIES))?.entries ?? [];
  return new Set([
    ...kernels,
    ...entries.map((entry) => join(bootPath, LIVE_ENTRIES, entry.fileName)),
  ]);
}
