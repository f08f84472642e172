// What a good start means for trust (docs/decisions/0022): deployments that the running image revokes leave the
// boot menu, then the version floor rises to the lowest version that is left in it.
//
// Only ever after a start has proved itself. Whatever goes wrong here is told and nothing more: a good start stays
// good. Done again, it does the rest.

import { dirname, join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { type Floor, type FloorPlaces, raiseFloor, readFloor } from "../../shared/trust/floor.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import type { Step } from "../../shared/txn/plan.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";
import { findFloorPlaces } from "../trust/floor-places.ts";
import { type FloorTarget, findFloorTarget } from "../trust/floor-target.ts";
import type { ImageTrust } from "../trust/image-trust.ts";
import { readStartEvidence } from "../trust/running-trust.ts";
import { applyDelete } from "./delete.ts";
import { planDelete } from "./delete-plan.ts";
import { readDeployedTrust } from "./deployed-trust.ts";
import type { Deployer } from "./deployer.ts";
import { observeRunningTrust } from "./image-admission.ts";
import { isOnTrial } from "./trial.ts";
import { observeWorld, requireBooted, type World } from "./world.ts";

export interface TrustSettlement {
  /** Deployments that left the menu because they are revoked. */
  readonly removed: readonly string[];
  /** How the floor changed; null: it did not. */
  readonly raised: { readonly version: number; readonly source: Floor["source"] } | null;
  /** One sentence each. */
  readonly problems: readonly string[];
}

/**
 * Steps that have the next complete start settle what is to settle: an installation is never on trial, and a
 * blessing may be cut off.
 */
export function wantSettlementSteps(
  physicalRoot: string,
  { anchors }: ImageTrust,
): readonly Step[] {
  const hasFloor = anchors.signed && anchors.counter !== "none";
  if (!hasFloor && anchors.revokedDigests.size === 0) return [];
  const path = markerPath(physicalRoot);
  return [
    { kind: "mkdir", path: dirname(path), mode: 0o755 },
    { kind: "write", path, bytes: new Uint8Array(), mode: 0o644 },
  ];
}

/** bootc-boot-bless.service looks for it as well. */
function markerPath(physicalRoot: string): string {
  return join(physicalRoot, "state/bootc/trust-unsettled");
}

/** Before a start is called good: from then on nothing else would ask for it again. Never throws. */
export function beginSettlement({ system }: Deployer, world: World): void {
  try {
    const running = observeRunningTrust(system, world);
    applySteps(wantSettlementSteps(system.physicalRoot, running));
  } catch {
    // Settling fails for the same reason, and tells it.
  }
}

const NOTHING: TrustSettlement = { removed: [], raised: null, problems: [] };

/** `world` as it is after the blessing. Never throws. */
export function settleTrust(deployer: Deployer, world: World): TrustSettlement {
  try {
    if (isOnTrial(world)) return NOTHING;
    const running = observeRunningTrust(deployer.system, world);
    const problems: string[] = [];
    const waits: string[] = [];
    const removed = removeRevoked(deployer, world, running, problems);
    const { boot, system } = deployer;
    const after = removed.length === 0 ? world : observeWorld(system, boot, requireBooted(world));
    const raised = raise(deployer, after, running, { problems, waits });
    // What waits for another update has nothing to try again at the next start.
    if (problems.length === 0) {
      applySteps([{ kind: "remove", path: markerPath(system.physicalRoot) }]);
    }
    return { removed, raised, problems: [...problems, ...waits] };
  } catch (error) {
    return { ...NOTHING, problems: [describeError(error)] };
  }
}

/** For `--dry-run`: what `settleTrust` would do after this start was found good. */
export function planSettlement(deployer: Deployer, world: World): object {
  const running = observeRunningTrust(deployer.system, world);
  const target = planFloor(deployer, world, running);
  return {
    revoked: findRevoked(world, running).filter((id) => !world.pins.has(id)),
    floor: target?.kind === "raise" ? target.version : null,
  };
}

/** In the menu although the running image revokes them; what somebody pinned stays, and is told. */
export function findRevoked(world: World, running: ImageTrust): readonly string[] {
  const { revokedDigests } = running.anchors;
  const ids = world.live.map(({ deploymentId }) => deploymentId).filter((id) => id !== null);
  return [...new Set(ids)].filter((id) => id !== world.booted?.id && revokedDigests.has(id));
}

function removeRevoked(
  deployer: Deployer,
  world: World,
  running: ImageTrust,
  problems: string[],
): readonly string[] {
  const { boot, system } = deployer;
  const removed: string[] = [];
  for (const id of findRevoked(world, running)) {
    if (world.pins.has(id)) continue;
    try {
      const now = observeWorld(system, boot, requireBooted(world));
      applyDelete(deployer, now, planDelete(now, id));
      removed.push(id);
    } catch (error) {
      problems.push(
        `Revoked deployment ${shortId(id)} stays in the boot menu: ${describeError(error)}`,
      );
    }
  }
  return removed;
}

function raise(
  deployer: Deployer,
  world: World,
  running: ImageTrust,
  { problems, waits }: { readonly problems: string[]; readonly waits: string[] },
): TrustSettlement["raised"] {
  const target = planFloor(deployer, world, running);
  if (target?.kind === "wait") waits.push(`The version floor stays: ${target.reason}`);
  if (target?.kind !== "raise") return null;
  const places = findPlaces(deployer.system, world.layout, running);
  const before = readFloor(places);
  // Also where it is high enough already: of the two places one may have lost it.
  const floor = raiseFloor(places, target);
  problems.push(...floor.problems);
  if (floor.value === before.value) return null;
  return { version: floor.value ?? target.version, source: floor.source };
}

/** How far the floor may rise; null where the running image wants no signatures, or no floor. */
export function planFloor(
  deployer: Omit<Deployer, "boot">,
  world: World,
  running: ImageTrust,
): FloorTarget | null {
  if (!running.anchors.signed || !hasFloorPlace(deployer.system, world.layout, running))
    return null;
  // Where prepare-root checked nothing, a floor would promise what nobody keeps.
  const evidence = readStartEvidence(deployer.system, requireBooted(world).id);
  if (evidence?.mode !== "signed") return null;
  const entries = [...world.live, ...(world.stagedFile === null ? [] : (world.staged ?? []))];
  const ids = new Set(entries.map(({ deploymentId }) => deploymentId));
  const states = world.states.filter(({ id }) => ids.has(id) || id === world.booted?.id);
  const deployments = states.map((state) => {
    const isRunning = state.id === world.booted?.id;
    const trust = isRunning ? running : readDeployedTrust(deployer, world, state);
    return {
      id: state.id,
      document: state.statement ?? null,
      anchors: trust?.anchors ?? null,
    };
  });
  return findFloorTarget(deployments, running);
}

function hasFloorPlace(system: System, layout: BootLayout, running: ImageTrust): boolean {
  const { espPath, tpmPath } = findPlaces(system, layout, running);
  const { counter } = running.anchors;
  if (counter === "none") return false;
  return espPath !== null || (tpmPath !== null && counter !== "esp");
}

function findPlaces(system: System, layout: BootLayout, running: ImageTrust): FloorPlaces {
  return findFloorPlaces({ system, layout, isForThisMachine: true }, running);
}
