// Signed statements in the course of an update (decision 0022): looked for and asked for before anything is fetched, and
// renewed where the image is deployed already. Whether the fetched image may be staged is image-admission.ts's.
//
// A deployment that is there may get a better statement later: signed by another key as well, or valid for longer. Its
// image stays as it is, so nothing is staged; the file beside its origin is replaced. Never by a worse one: what is
// there takes part in the choice.

import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { addStatements } from "../image/statement-source.ts";
import { type AdmissionRequest, chooseStatement } from "../trust/admission.ts";
import { readImageFloor } from "../trust/floor-places.ts";
import type { ImageTrust } from "../trust/image-trust.ts";
import { readDeployedTrust } from "./deployed-trust.ts";
import type { Deployer } from "./deployer.ts";
import { observeRunningTrust, requireKnownSigner } from "./image-admission.ts";
import { statePaths } from "./state-directory.ts";
import { recordRenewed } from "./update-events.ts";
import type { World } from "./world.ts";

/** What runs may want a signature: then all statements of the image are looked for, before it is fetched. */
export async function findSignatures(
  running: ImageTrust,
  source: ImageSource,
  resolved: ResolvedImage,
): Promise<ResolvedImage> {
  return running.anchors.signed ? await addStatements(source, resolved) : resolved;
}

/** PolicyError when no statement is by a key of what runs, where that matters. */
export function requireSigner(
  deployer: Deployer,
  running: ImageTrust,
  { allowWeakerTrust }: { readonly allowWeakerTrust?: boolean },
  { statements = { documents: [], gap: null } }: ResolvedImage,
): void {
  const allowWeaker = allowWeakerTrust === true;
  const place = { ...deployer, isForThisMachine: true };
  requireKnownSigner(place, { running, statements, allowWeaker });
}

export interface RenewedStatement {
  readonly id: string;
  readonly version: number;
  /** RFC 3339; null: never. */
  readonly expires: string | null;
  readonly document: Uint8Array;
}

/** A deployment stays as it is, but its signatures may have become better. */
export function renewStatement(
  deployer: Deployer,
  world: World,
  { checkOnly, dryRun }: { readonly checkOnly: boolean; readonly dryRun: boolean },
  { id, resolved }: { readonly id: string; readonly resolved: ResolvedImage },
): { readonly renewed?: RenewedStatement } {
  if (checkOnly) return {};
  const renewed = planRenewal(deployer, world, id, resolved.statements?.documents ?? []);
  if (renewed === null) return {};
  if (!dryRun) {
    const { statement } = statePaths(deployer.system.physicalRoot, id);
    writeFileAtomic(null, statement, renewed.document, { mode: 0o644 });
    recordRenewed(deployer.system, renewed);
  }
  return { renewed };
}

/** What the deployment `id` is to get in place of its statement; null: it has the best there is. */
function planRenewal(
  deployer: Deployer,
  world: World,
  id: string,
  documents: readonly Uint8Array[],
): RenewedStatement | null {
  const state = world.states.find((each) => each.id === id);
  if (documents.length === 0 || state === undefined) return null;
  const running = observeRunningTrust(deployer.system, world);
  const image = id === world.booted?.id ? running : readDeployedTrust(deployer, world, state);
  if (image === null) return null;
  const current = state.statement;
  const best = chooseStatement({
    ...{ id, image, running, allowWeaker: false, now: new Date() },
    documents: current === undefined ? documents : [current, ...documents],
    ...readFloors(deployer, image, running),
  });
  if (best === null || best.statement.digest !== id || best.ownRefusal !== null) return null;
  if (current !== undefined && Buffer.from(current).equals(best.document)) return null;
  const { expires, version } = best.statement;
  return { id, version, expires, document: best.document };
}

function readFloors(
  { boot, system }: Deployer,
  image: ImageTrust,
  running: ImageTrust,
): Pick<AdmissionRequest, "ownFloor" | "runningFloor"> {
  const machine = { system, layout: boot.layout, isForThisMachine: true };
  const read = (trust: ImageTrust) => readImageFloor(machine, trust)?.value ?? null;
  const ownFloor = read(image);
  return { ownFloor, runningFloor: image === running ? ownFloor : read(running) };
}
