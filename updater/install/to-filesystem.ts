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
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import { type BootDirectory, kernelRoot } from "../boot/boot-layout.ts";
import { LIVE_ENTRIES, readEntryDirectory } from "../boot/entry-directory.ts";
import { openTargetBootDirectory } from "../boot/esp.ts";
import {
  ADDONS_PARENT,
  listAddons,
  listKernelDirectories,
  listUnifiedKernels,
  readKernelDirectories,
  UKI_PARENT,
} from "../boot/kernel-directory.ts";
import type { System } from "../boot/system.ts";
import { requireBootctl } from "../boot/systemd-boot.ts";
import { writeState } from "../deploy/deployment-state.ts";
import {
  admitDeployment,
  type DeployedTrust,
  readClaims,
  stateOfTrust,
} from "../deploy/image-admission.ts";
import { requireEtc } from "../deploy/image-tree.ts";
import { computeBootDigest, kernelSteps, listKernelWrites } from "../deploy/kernel-source.ts";
import { formatPolicyRecord, makePolicyRecord } from "../deploy/policy-record.ts";
import { requireExactBootSpace, requireKernelSpace, requirePullSpace } from "../deploy/space.ts";
import { wantSettlementSteps } from "../deploy/trust-settlement.ts";
import { readUnifiedImage } from "../deploy/unified-facts.ts";
import { pullBootImage, type UpdateObserver } from "../deploy/update.ts";
import { INSTALL_STEPS } from "../deploy/update-step.ts";
import type { BootImage } from "../image/boot-image.ts";
import { isOurAddon } from "../image/boot-kernel.ts";
import { dropDownloads } from "../image/kept-downloads.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import type { PolicyDecision } from "../image/policy/decision.ts";
import { type PullPlan, planFirstPull } from "../image/pull-plan.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { BOOTCTL_ROOT, installBootloader, setLoaderTimeout } from "./bootloader.ts";
import { settleFileSystem, syncFileSystem } from "./disk-settlement.ts";
import {
  type ArgumentOptions,
  type InstallPlan,
  parseKargDeletes,
  planInstall,
  requireNoArguments,
  rootArguments,
} from "./install-plan.ts";
import { checkTarget, checkVerity, findRootSpec } from "./target.ts";

const ALGORITHM = "sha512";
/** What an installation makes in the target, and takes away when it fails. */
const TOP_DIRECTORIES = ["composefs", "state", "ostree", BOOTCTL_ROOT];

export interface InstallRequest {
  /** Absolute path of a mount point. */
  readonly target: string;
  readonly source: ImageSource;
  /** What `source` was opened for; whether its signature is required stands in it. */
  readonly sourceReference: ImageReference;
  /** Where the installed system will look for updates. */
  readonly targetReference: ImageReference;
  /** Null: the UUID of the target; "": none. */
  readonly rootMountSpec: string | null;
  readonly bootMountSpec: string | null;
  readonly kargs: readonly string[];
  readonly kargDeletes: readonly string[];
  /** Of these four, what does not come from the image's configuration; a sealed kernel does without that. Default: all. */
  readonly given?: ArgumentOptions;
  /** Which addons of the image's unified kernel; none: all. */
  readonly ukiAddons?: readonly string[];
  readonly allowMissingVerity: boolean;
  readonly bootloader: "systemd" | "none";
  readonly genericImage: boolean;
  readonly skipFinalize: boolean;
}

/** What was found out before anything is written. Holds the boot partition. */
export interface InstallPreparation extends Disposable {
  readonly system: System;
  readonly resolved: ResolvedImage;
  readonly decision: PolicyDecision;
  readonly pullPlan: PullPlan;
  /** Kernel arguments but those of the image. */
  readonly kargs: Cmdline;
  readonly kargDeletes: Cmdline;
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
  const kargDeletes = parseKargDeletes(request.kargDeletes);
  const kargs = rootArguments({
    rootSpec: request.rootMountSpec ?? findRootSpec(mount),
    bootSpec: request.bootMountSpec,
    kargs: request.kargs,
    kargDeletes,
  });
  const { resolved, decision } = await resolveAdmitted(request.source, request.sourceReference);
  const settings = { algorithm: ALGORITHM, secure: !request.allowMissingVerity } as const;
  const pullPlan = await planFirstPull(settings, request.source, resolved);
  requirePullSpace(target, pullPlan, request.source.name);
  const boot = openTargetBootDirectory(system, target);
  try {
    requireKernelSpace(boot, pullPlan, null);
  } catch (error) {
    boot[Symbol.dispose]();
    throw error;
  }
  const found = { system, resolved, decision, pullPlan, kargs, kargDeletes, boot };
  return { ...found, [Symbol.dispose]: () => boot[Symbol.dispose]() };
}

/** Installs what `prepareInstall` looked at; returns what was installed. */
export async function installToFilesystem(
  request: InstallRequest,
  preparation: InstallPreparation,
  observer: UpdateObserver,
): Promise<InstallPlan> {
  const { boot } = preparation;
  const before = listBootFiles(boot);
  let plan: InstallPlan;
  try {
    plan = await writeInstallation(request, preparation, observer);
  } catch (error) {
    undoInstall(request.target, boot, before);
    throw error;
  }
  observer.onStep(INSTALL_STEPS.settling);
  if (!request.skipFinalize) settleFileSystem(request.target);
  observer.onStep(null);
  return plan;
}

async function writeInstallation(
  request: InstallRequest,
  { system, resolved, decision, pullPlan, kargs, kargDeletes, boot }: InstallPreparation,
  observer: UpdateObserver,
): Promise<InstallPlan> {
  using repo = createRepository(request.target, request.allowMissingVerity);
  const image = await pullBootImage(repo, request.source, { resolved, plan: pullPlan }, observer);
  if (image.seal !== null) requireNoArguments(request.given ?? request);
  const unified = readUnifiedImage(repo, boot, image);
  const plan = planInstall({
    image: {
      id: image.deploymentId,
      manifestDigest: resolved.manifestDigest,
      originReference: formatOriginReference(request.targetReference),
      osRelease: image.osRelease,
      kargs: image.kargsD,
      bootDigest: computeBootDigest(repo, image.kernel),
      ...(unified && { unified }),
    },
    ukiAddons: request.ukiAddons ?? [],
    kargs,
    kargDeletes,
    kernels: readKernelDirectories(boot),
    layout: boot.layout,
    verityOptional: request.allowMissingVerity,
  });
  const claims = await readClaims(repo, request.source, resolved, image);
  const trust = admitDeployment(
    // A disk for another machine has nothing to do with this one's TPM.
    { repo, boot, system, isForThisMachine: !request.genericImage },
    { id: image.deploymentId, claims, running: null, allowWeaker: false },
  );
  dropDownloads(repo);
  applyInstall({ request, repo, boot, image, plan, decision, trust, observer });
  return plan;
}

function undoInstall(target: string, boot: BootDirectory, before: ReadonlySet<string>): void {
  try {
    for (const name of TOP_DIRECTORIES) removeTree(null, join(target, name));
    for (const path of listBootFiles(boot)) if (!before.has(path)) removeTree(null, path);
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
  // bootc-status-updated.path watches where this link leads to.
  mkdiratIfMissing(null, join(target, "composefs/bootc"), 0o755);
  symlinkat("../composefs/bootc", null, join(target, "ostree/bootc"));
  return repo;
}

interface Installation {
  readonly request: InstallRequest;
  readonly repo: Repository;
  readonly boot: BootDirectory;
  readonly image: BootImage;
  readonly plan: InstallPlan;
  readonly decision: PolicyDecision;
  readonly trust: DeployedTrust;
  readonly observer: UpdateObserver;
}

function applyInstall(installation: Installation): void {
  const { request, repo, boot, image, plan, decision, trust, observer } = installation;
  const { target } = request;
  const kernel = listKernelWrites(boot, image.kernel, plan.kernel, null);
  requireExactBootSpace(boot, null, kernel, [plan.entry]);
  if (request.bootloader === "systemd") {
    observer.onStep(INSTALL_STEPS.bootloader);
    applyTransaction(setLoaderTimeout(boot.path));
    installBootloader({
      repo,
      image,
      target,
      bootPath: boot.path,
      genericImage: request.genericImage,
    });
  }
  observer.onStep(INSTALL_STEPS.deploying);
  writeState(repo, target, {
    id: plan.id,
    etc: requireEtc(image.tree, plan.id),
    var: lookupDirectory(image.tree, "var"),
    origin: plan.origin,
    policy: formatPolicyRecord(makePolicyRecord(decision)),
    ...stateOfTrust(trust),
    addons: plan.addons,
    etcRules: null,
  });
  applySteps(wantSettlementSteps(target, trust.image));
  syncFileSystem(target);
  const entries = join(boot.path, LIVE_ENTRIES);
  applyTransaction({
    prepare: [
      ...kernelSteps(target, kernel),
      { kind: "mkdir", path: join(boot.path, "loader"), mode: 0o755 },
      { kind: "mkdir", path: entries, mode: 0o755 },
    ],
    commit: writeText(join(entries, plan.entry.fileName), plan.entry.text),
    cleanup: [],
  });
  syncFileSystem(boot.path);
}

/** Paths of the kernels, addons and entries on the boot partition. */
function listBootFiles(boot: BootDirectory): ReadonlySet<string> {
  const addons = listAddons(boot.layout, ADDONS_PARENT).filter(isOurAddon);
  const kernels = listKernelDirectories(boot).map((name) => join(kernelRoot(boot), name));
  const entries = readEntryDirectory(join(boot.path, LIVE_ENTRIES))?.entries ?? [];
  return new Set([
    ...kernels,
    ...listUnifiedKernels(boot).map((name) => join(boot.path, UKI_PARENT, name)),
    ...addons.map((name) => join(boot.path, ADDONS_PARENT, name)),
    ...entries.map((entry) => join(boot.path, LIVE_ENTRIES, entry.fileName)),
  ]);
}
