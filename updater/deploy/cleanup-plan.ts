// What may be removed (bootc.md 4.17), the thinking part. Pure.
//
// Rooted in what the boot loader can boot: live entries, the staged ones as long as a shutdown may apply
// them, the running image, and pins. Kernel directories live by the name entries use, states and tags by
// the deployment. Where something that decides could not be read, nothing is concluded from it: then every
// deployment and kernel stays, `kept` says why, and only what is nobody's in any case goes.

import { shortId } from "../../shared/bytes/hex.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { artefactOwner } from "../boot/artefact-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { deploymentTag } from "../image/boot-image.ts";
import { isDeploymentTag } from "./image-tag.ts";
import type { World } from "./world.ts";

export interface CleanupPlan {
  /** Names of kernel directories no entry boots from. */
  readonly kernels: readonly string[];
  /** Names in `EFI/Linux/bootc` of unified kernels no entry boots, with their addons. */
  readonly ukis: readonly string[];
  /** Names in `loader/addons` of addons of ours that no deployment needs. */
  readonly globalAddons: readonly string[];
  /** Below the boot directory: files of writers that died. */
  readonly strays: readonly string[];
  /** Staged entries that nothing will apply: of a shutdown that failed, or a download that was not applied. */
  readonly stagedEntries: boolean;
  /** Deployment ids whose state goes. */
  readonly states: readonly string[];
  /** Names in `state/deploy` left by interrupted work. */
  readonly leftovers: readonly string[];
  /** The staged file names a deployment that is going. */
  readonly stagedFile: boolean;
  /** Repository tags, decoded. */
  readonly tags: readonly string[];
  /** What the repository's garbage collection must keep beside the other tags. */
  readonly roots: readonly string[];
  /** Why deployments or tags stay that may not be needed; one sentence each. */
  readonly kept: readonly string[];
}

export interface CleanupScope {
  /** Decoded tags of the repository. */
  readonly tags: readonly string[];
  /** The tags of images whose manifest the origin does not name, by deployment id. */
  readonly tagsById?: ReadonlyMap<string, readonly string[]>;
  /** Only kernels: at shutdown there is no time for more. */
  readonly kernelsOnly: boolean;
}

const REPAIR = '"bootc internals fsck --repair" mends it';

/** Always leaves what runs, is staged or pinned, and what may be. */
export function planCleanup(world: World, scope: CleanupScope): CleanupPlan {
  const isStale = !scope.kernelsOnly && hasStaleEntries(world);
  const entries = [...world.live, ...(isStale ? [] : (world.staged ?? []))];
  const needed = neededDeployments(world, entries);
  const lost = without(needed, entries);
  const doubt = findDoubt(world);
  const kernelDoubt = doubt ?? findKernelDoubt(world, lost);
  const artefacts = new Set(entries.map((entry) => entry.artefact));
  const isUnused = (name: string) =>
    kernelDoubt === null && !artefacts.has(name) && !lost.has(artefactOwner(name) ?? "");
  const kernels = world.kernels.filter(isUnused);
  const ukis = world.ukis.filter((name) => isUnused(name.replace(/\.efi(\.extra\.d)?$/, "")));
  const addonDoubt = kernelDoubt ?? findAddonDoubt(world, needed);
  const globalAddons = addonDoubt === null ? findUnusedAddons(world, needed) : [];
  const ofKernels = { kernels, ukis, globalAddons, strays: world.strays };
  const kept = [...new Set([doubt, kernelDoubt, addonDoubt])].filter((reason) => reason !== null);
  if (scope.kernelsOnly) {
    return { ...NOTHING, ...ofKernels, kept };
  }
  const states = doubt === null ? world.states.filter((state) => !needed.has(state.id)) : [];
  const gone = new Set(states.map((state) => state.id));
  const roots = new Set([...needed, ...world.states.map((state) => state.id)]);
  const tags = planTags(
    world,
    scope,
    [...roots].filter((id) => !gone.has(id)),
  );
  const stagedId = world.stagedFile?.id;
  return {
    ...ofKernels,
    stagedEntries: isStale && doubt === null,
    states: [...gone],
    leftovers: world.leftovers,
    stagedFile: doubt === null && stagedId !== undefined && !needed.has(stagedId),
    tags: tags.removable,
    roots: [...roots].filter((id) => !gone.has(id)).sort(),
    kept: [...kept, ...tags.kept],
  };
}

const NOTHING: CleanupPlan = {
  kernels: [],
  ukis: [],
  globalAddons: [],
  strays: [],
  stagedEntries: false,
  states: [],
  leftovers: [],
  stagedFile: false,
  tags: [],
  roots: [],
  kept: [],
};

/** Without its file, which a restart takes away, staged entries are never applied; nor without what it names. */
function hasStaleEntries({ staged, stagedFile, live, brokenStaged, unread }: World): boolean {
  if (staged === null || unread.includes("staged-file")) return false;
  if (stagedFile === null) return true;
  const isThere = [...staged, ...live].some(({ deploymentId }) => deploymentId === stagedFile.id);
  return !isThere && !brokenStaged.some(({ isOurs }) => isOurs);
}

function neededDeployments(world: World, entries: readonly BootEntry[]): ReadonlySet<string> {
  const ids = entries.map((entry) => entry.deploymentId).filter((id) => id !== null);
  // The arguments may name another one than the kernel's file does; that one starts.
  const said = entries.flatMap((entry) => (entry.deploymentId === null ? [] : namedImages(entry)));
  return new Set([
    ...ids,
    ...said,
    ...world.pins,
    ...(world.booted === null ? [] : [world.booted.id]),
  ]);
}

function namedImages({ cmdline }: BootEntry): readonly string[] {
  try {
    return parseComposefsKargs(cmdline).map(({ digest }) => digest);
  } catch {
    return []; // it starts nothing then
  }
}

/** Deployments with unified kernels of which nobody wrote down what they need. */
function findAddonDoubt(
  { states, globalAddons }: World,
  needed: ReadonlySet<string>,
): string | null {
  if (globalAddons.length === 0) return null;
  const unclear = [...needed].find((id) => {
    const state = states.find((candidate) => candidate.id === id);
    return state?.origin?.bootType !== "bls" && state?.addons === undefined;
  });
  return unclear === undefined
    ? null
    : `All addons stay: nobody knows which ones deployment ${shortId(unclear)} needs`;
}

function findUnusedAddons(
  { states, globalAddons }: World,
  needed: ReadonlySet<string>,
): readonly string[] {
  const staying = states.filter(({ id }) => needed.has(id));
  const used = new Set(staying.flatMap(({ addons }) => addons ?? []));
  return globalAddons.filter((name) => !used.has(name));
}

/** Why nothing may be concluded from the absence of an entry; null when something may. */
function findDoubt(world: World): string | null {
  const { booted, live } = world;
  if (world.unread.includes("live") || world.unread.includes("staged")) {
    return "All deployments and kernels stay: the boot entries cannot be read";
  }
  const isUsed = world.stagedFile !== null || world.unread.includes("staged-file");
  const broken = [...world.brokenLive, ...(isUsed ? world.brokenStaged : [])];
  const ours = broken.find((entry) => entry.isOurs);
  if (ours !== undefined) {
    return `All deployments and kernels stay: boot entry "${ours.fileName}" cannot be understood; ${REPAIR}`;
  }
  // The entries of another disk or partition would look like this as well.
  if (booted === null ? live.length > 0 : live.some((e) => e.deploymentId === booted.id)) {
    return null;
  }
  return booted === null
    ? "All deployments and kernels stay: there are no boot entries"
    : `All deployments and kernels stay: the running deployment ${shortId(booted.id)} has no boot entry; ${REPAIR}`;
}

/** Deployments that stay without an entry that names their kernel. */
function without(needed: ReadonlySet<string>, entries: readonly BootEntry[]): ReadonlySet<string> {
  const found = new Set(entries.map((entry) => entry.deploymentId));
  return new Set([...needed].filter((id) => !found.has(id)));
}

/** A pin whose entry is lost starts the kernel with its name, else it may be any. */
function findKernelDoubt(world: World, lost: ReadonlySet<string>): string | null {
  const ukis = world.ukis.map((name) => name.replace(/\.efi$/, ""));
  const named = new Set([...world.kernels, ...ukis].map(artefactOwner));
  const unclear = [...lost].find((id) => world.pins.has(id) && !named.has(id));
  return unclear === undefined
    ? null
    : `All kernels stay: the pinned deployment ${shortId(unclear)} has no boot entry; ${REPAIR}`;
}

/** Tags of deployments that are gone; none when one that stays cannot be told from them. */
function planTags(
  world: World,
  scope: CleanupScope,
  staying: readonly string[],
): { readonly removable: readonly string[]; readonly kept: readonly string[] } {
  const ours = scope.tags.filter(isDeploymentTag);
  const live = new Set<string>();
  const unknown = staying.filter((id) => {
    const state = world.states.find((candidate) => candidate.id === id);
    const digest = state?.origin?.manifestDigest ?? null;
    if (digest !== null) live.add(deploymentTag(digest));
    const byImage = scope.tagsById?.get(id) ?? [];
    for (const tag of byImage) live.add(tag);
    const isCertain = digest !== null && state?.digestUncertain !== true;
    return !isCertain && byImage.length === 0;
  });
  const removable = ours.filter((tag) => !live.has(tag));
  if (unknown.length === 0 || removable.length === 0) return { removable, kept: [] };
  const names = unknown.map(shortId).join(", ");
  return {
    removable: [],
    kept: [`All images stay: nobody knows which one deployment ${names} is from; ${REPAIR}`],
  };
}
