// What `bootc status` reports, from the world (bootc.md 4.15): boot entries are the source of truth,
// origins say what they are.

import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { isReadOnlyDevice } from "../boot/block-device.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { Bootloader } from "../boot/efi-variable.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";
import {
  formatOriginReference,
  type ImageReference,
  parseOriginReference,
} from "../image/reference.ts";
import type { DeploymentTrust } from "../trust/deployment-trust.ts";
import type { BootFailure } from "./boot-failure.ts";
import { type CachedUpdate, readCachedUpdate } from "./cached-update.ts";
import { describeFinalizeFailure, readFinalizeFailure } from "./finalize-failure.ts";
import { type MachineTrust, readHostTrust } from "./host-trust.ts";
import { type ImageFacts, readImageFacts } from "./image-facts.ts";
import type { PolicyRecord } from "./policy-record.ts";
import { assignSlots } from "./slots.ts";
import { canSoftReboot } from "./soft-reboot.ts";
import type { DeploymentState } from "./state-directory.ts";
import type { World } from "./world.ts";

export interface Deployment {
  /** Hex digest of the bootable image. */
  readonly id: string;
  readonly image: ImageReference | null;
  readonly manifestDigest: string | null;
  readonly version: string | null;
  /** RFC 3339 */
  readonly timestamp: string | null;
  readonly architecture: string;
  readonly bootType: "bls" | "uki";
  readonly bootloader: Bootloader;
  readonly bootDigest: string | null;
  readonly missingVerityAllowed: boolean;
  readonly downloadOnly: boolean;
  readonly softRebootCapable: boolean;
  /** Never removed, whatever is deployed after it. */
  readonly pinned: boolean;
  /** What the last check found for the image this deployment follows; may be what it is already. */
  readonly cachedUpdate: CachedUpdate | null;
  /** How its image was accepted, where that was recorded. */
  readonly policy: PolicyRecord | null;
  /** How it proves what it is; null where nobody can tell. */
  readonly trust: DeploymentTrust | null;
  /** File name of its boot entry. */
  readonly entryFile: string | null;
}

export interface HostState {
  readonly booted: Deployment | null;
  readonly staged: Deployment | null;
  readonly rollback: Deployment | null;
  readonly others: readonly Deployment[];
  readonly rollbackQueued: boolean;
  readonly usrOverlay: { readonly readOnly: boolean } | null;
  /** The disk itself cannot be written (a live ISO). */
  readonly readOnly: boolean;
  /** What did not start, newest last. */
  readonly failures: readonly BootFailure[];
  /** Null on a machine that does not run from an image. */
  readonly trust: MachineTrust | null;
  readonly problems: readonly string[];
}

/** Reads what is missing in `world` (image versions, mounts of /usr) and sorts it into slots. */
export function makeHostState(system: System, repo: Repository, world: World): HostState {
  const notApplied = describeFinalizeFailure(world, readFinalizeFailure(system));
  const problems = [...world.problems, ...(notApplied === null ? [] : [notApplied])];
  const facts = (state: DeploymentState): ImageFacts | null => {
    const digest = state.origin?.manifestDigest;
    if (digest === undefined || digest === null) return null;
    try {
      return readImageFacts(repo, digest);
    } catch (error) {
      problems.push(`Image ${digest} cannot be read: ${describeError(error)}`);
      return null;
    }
  };
  const trust = readHostTrust({ system, repo }, world);
  const slots = assignSlots(world);
  const bootedEntry = world.live.find((entry) => entry.deploymentId === world.booted?.id);
  const describe = (id: string | undefined, entry: BootEntry | undefined): Deployment | null => {
    const state = id === undefined ? undefined : findDescribable(world, id);
    if (id === undefined || state === undefined) return null;
    const described = describeDeployment(world, state, entry, facts(state), problems);
    const proof = trust?.describe(state, described.missingVerityAllowed) ?? null;
    if (proof?.refusal != null) problems.push(describeRefusal(id, world, proof.refusal));
    return {
      ...described,
      trust: proof,
      softRebootCapable: canSoftReboot(system, repo, world, id),
    };
  };
  const update = readCachedUpdate(system.physicalRoot, problems);
  const follow = (deployment: Deployment | null): Deployment | null =>
    deployment === null ? null : { ...deployment, cachedUpdate: chooseUpdate(deployment, update) };
  const others = slots.others.map((entry) => describe(entry.deploymentId ?? undefined, entry));
  const usr = findMount(system.mounts, "/usr");
  const physicalRoot = findMount(system.mounts, system.physicalRoot);
  return {
    booted: follow(describe(world.booted?.id, bootedEntry)),
    staged: follow(describe(slots.staged?.deploymentId ?? undefined, slots.staged)),
    rollback: describe(slots.rollback?.deploymentId ?? undefined, slots.rollback),
    others: others.filter((deployment) => deployment !== null),
    rollbackQueued: slots.rollbackQueued,
    usrOverlay: usr === null ? null : { readOnly: usr.readOnly },
    readOnly: physicalRoot !== null && isReadOnlyDevice(system, physicalRoot),
    failures: world.failures,
    trust: trust?.machine ?? null,
    // Whole only now, as what is described was looked at.
    problems: [...problems, ...(trust?.problems ?? [])],
  };
}

/** What runs is shown whatever is left of its state; others need an origin, as in bootc. */
function findDescribable(world: World, id: string): DeploymentState | undefined {
  const state = world.states.find((candidate) => candidate.id === id);
  if (id === world.booted?.id) return state ?? { id, origin: null, complete: false };
  return state?.origin ? state : undefined;
}

/** A check is about one reference, and about the deployments that are updated: the rollback is not. */
function chooseUpdate({ image }: Deployment, update: CachedUpdate | null): CachedUpdate | null {
  if (image === null || update === null) return null;
  return formatOriginReference(image) === update.reference ? update : null;
}

function describeDeployment(
  world: World,
  state: DeploymentState,
  entry: BootEntry | undefined,
  facts: ImageFacts | null,
  problems: string[],
): Omit<Deployment, "softRebootCapable" | "trust"> {
  const { origin } = state;
  const karg = entry === undefined ? undefined : parseComposefsKargs(entry.cmdline)[0];
  return {
    id: state.id,
    image: readReference(state, problems),
    manifestDigest: origin?.manifestDigest ?? null,
    version: facts?.version ?? null,
    timestamp: facts?.timestamp ?? null,
    architecture: facts?.architecture ?? hostArchitecture(),
    bootType: origin?.bootType ?? (entry?.entry.target.kind === "efi" ? "uki" : "bls"),
    bootloader: world.bootloader,
    bootDigest: origin?.bootDigest ?? null,
    missingVerityAllowed: karg?.optional ?? world.booted?.verityOptional ?? false,
    downloadOnly: world.stagedFile?.id === state.id && world.stagedFile.locked,
    pinned: world.pins.has(state.id),
    cachedUpdate: null,
    policy: state.policy ?? null,
    entryFile: entry?.fileName ?? null,
  };
}

function describeRefusal(id: string, world: World, refusal: string): string {
  const which = id === world.booted?.id ? "The running deployment" : `Deployment ${shortId(id)}`;
  return `${which} would be refused when it is started: ${refusal}`;
}

function readReference(state: DeploymentState, problems: string[]): ImageReference | null {
  // Without an origin that can be read, that is said already.
  if (state.origin === null) return null;
  const text = state.origin.imageReference;
  if (text === null) {
    problems.push(`Deployment ${shortId(state.id)} has no image reference in its origin file`);
    return null;
  }
  try {
    return parseOriginReference(text);
  } catch (error) {
    problems.push(`Deployment ${shortId(state.id)}: ${describeError(error)}`);
    return null;
  }
}
