// The part of `bootc status` that is about trust: every deployment, and the machine (docs/status.md). Reads, and
// what cannot be read is a problem and nothing more.

import { shortId } from "../../shared/bytes/hex.ts";
import { describeError, PolicyError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { Floor } from "../../shared/trust/floor.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";
import { type DeploymentTrust, describeOther, describeRunning } from "../trust/deployment-trust.ts";
import { readImageFloor } from "../trust/floor-places.ts";
import type { ImageTrust } from "../trust/image-trust.ts";
import { findNextMode, type NextMode } from "../trust/next-mode.ts";
import { readStartEvidence, type StartEvidence } from "../trust/running-trust.ts";
import { findTpm, readSecureBoot, type SecureBoot } from "../trust/secure-boot.ts";
import { readDeployedTrust } from "./deployed-trust.ts";
import { observeRunningTrust } from "./image-admission.ts";
import type { DeploymentState } from "./state-directory.ts";
import { isOnTrial } from "./trial.ts";
import { findRevoked, planFloor } from "./trust-settlement.ts";
import type { World } from "./world.ts";

const EXPIRY_NOTICE_MS = 14 * 24 * 3600 * 1000;

export interface MachineTrust {
  readonly secureBoot: SecureBoot;
  readonly tpm: boolean;
  readonly floor: { readonly version: number | null; readonly source: Floor["source"] };
  /** What the running deployment lacks of the next stronger mode; null: nothing. */
  readonly next: NextMode | null;
}

export interface HostTrust {
  readonly machine: MachineTrust;
  readonly describe: (state: DeploymentState, verityOptional: boolean) => DeploymentTrust;
  /** In the menu although the running image revokes them. */
  readonly revoked: readonly string[];
  readonly problems: readonly string[];
}

interface Place {
  readonly system: System;
  readonly repo: Repository;
}

/** Null on a machine that does not run from an image. */
export function readHostTrust(place: Place, world: World): HostTrust | null {
  const { booted } = world;
  if (booted === null) return null;
  const problems: string[] = [];
  const attempt = makeAttempt(problems);
  const { system } = place;
  const running = attempt("What the running image trusts is unknown", () =>
    observeRunningTrust(system, world),
  );
  const evidence = attempt("How this start was checked is unknown", () =>
    readStartEvidence(system, booted.id),
  );
  const secureBoot = attempt("Secure Boot is unknown", () => readSecureBoot(system));
  const facts = { running, evidence, secureBoot: secureBoot ?? "unsupported", problems };
  const floor = readMachineFloor(system, world, running, problems);
  const found = attempt("Not all about trust can be told", () =>
    findProblems(place, world, facts, floor),
  );
  problems.push(...(found ?? []));
  const describe = describeWith(place, world, facts, floor);
  const own = world.states.find(({ id }) => id === booted.id) ?? { ...NO_STATE, id: booted.id };
  return {
    machine: {
      secureBoot: facts.secureBoot,
      tpm: findTpm(system) !== null,
      floor: { version: floor?.value ?? null, source: floor?.source ?? "none" },
      next: findNext(describe(own, booted.verityOptional), facts),
    },
    describe,
    revoked: running === null ? [] : findRevoked(world, running),
    problems,
  };
}

/**
 * PolicyError when the deployment would be refused at its start: its entry is not counted any more, so the machine
 * would try it for ever.
 */
export function requireStartable(place: Place, world: World, id: string): void {
  const trust = readHostTrust(place, world);
  const state = world.states.find((each) => each.id === id);
  if (trust === null || state === undefined) return;
  const short = shortId(id);
  if (trust.revoked.includes(id)) {
    throw new PolicyError(
      "revoked",
      `Deployment ${short} is revoked by the running image; "bootc delete-deployment ${short}" removes it`,
      { id },
    );
  }
  const { refusal } = trust.describe(state, false);
  if (refusal === null) return;
  throw new PolicyError(
    "rejected",
    `Deployment ${short} would be refused when it is started (${refusal})`,
    { id },
  );
}

const NO_STATE = { origin: null, complete: false } as const;

interface Facts {
  readonly running: ImageTrust | null;
  readonly evidence: StartEvidence | null;
  readonly secureBoot: SecureBoot;
  readonly problems: string[];
}

function makeAttempt(problems: string[]) {
  return <T>(what: string, read: () => T): T | null => {
    try {
      return read();
    } catch (error) {
      problems.push(`${what}: ${describeError(error)}`);
      return null;
    }
  };
}

function readMachineFloor(
  system: System,
  world: World,
  running: ImageTrust | null,
  problems: string[],
): Floor | null {
  if (running === null) return null;
  const machine = { system, layout: world.layout, isForThisMachine: true };
  const floor = readImageFloor(machine, running);
  problems.push(...(floor?.problems ?? []));
  return floor;
}

function describeWith(
  { repo, system }: Place,
  world: World,
  { evidence, problems, running, secureBoot }: Facts,
  floor: Floor | null,
): HostTrust["describe"] {
  return (state, verityOptional) => {
    const { id } = state;
    const isRunning = id === world.booted?.id;
    const image = isRunning ? running : readDeployedTrust({ repo }, world, state, problems);
    const common = {
      ...{ id, image, secureBoot },
      document: state.statement ?? null,
      floor: image?.anchors.signed === true ? (floor?.value ?? null) : null,
      now: new Date(),
    };
    if (isRunning) {
      return describeRunning({ ...common, verity: findVerity(system, repo, evidence) }, evidence);
    }
    const isEnforced =
      !verityOptional || (image?.anchors.signed === true && !image.anchors.allowMissingVerity);
    const verity = isEnforced ? "enforced" : repo.secure ? "optional" : "none";
    return describeOther({ ...common, verity });
  };
}

/** What the kernel asks of every file that is read: below an overlay in memory only prepare-root has seen it. */
function findVerity(
  { mounts }: System,
  repo: Repository,
  evidence: StartEvidence | null,
): DeploymentTrust["verity"] {
  const root = findMount(mounts, "/");
  const isVisible = root?.source.startsWith("composefs:") === true;
  const isEnforced = isVisible
    ? root.superOptions.split(",").includes("verity=require")
    : evidence?.verity === "enforced";
  if (isEnforced) return "enforced";
  return repo.secure ? "optional" : "none";
}

function findProblems(
  place: Place,
  world: World,
  { evidence, running }: Facts,
  floor: Floor | null,
): readonly string[] {
  if (running === null) return [];
  const revoked = findRevoked(world, running).map(
    (id) =>
      `Deployment ${shortId(id)} is revoked by the running image and still in the boot menu; ` +
      `"bootc delete-deployment ${shortId(id)}" removes it`,
  );
  const target = isOnTrial(world) ? null : planFloor(place, world, running);
  const isBehind = target?.kind === "raise" && (floor?.value ?? 0) < target.version;
  return [
    ...revoked,
    ...describeExpiry(evidence, running),
    ...(isBehind
      ? [
          `Images of older versions than ${target.version} would still start: the version floor is ${floor?.value ?? "not set"}; ` +
            '"bootc internals assess-boot good" raises it',
        ]
      : []),
  ];
}

/** Once it is over, and where that matters, its refusal says so. */
function describeExpiry(
  evidence: StartEvidence | null,
  { anchors }: ImageTrust,
): readonly string[] {
  const expires = evidence?.expires ?? null;
  if (expires === null) return [];
  const leftMs = Date.parse(expires) - Date.now();
  if (leftMs > EXPIRY_NOTICE_MS) return [];
  const what = "The signature of the running deployment";
  if (anchors.expired === "warn") {
    return leftMs > 0 ? [] : [`${what} expired at ${expires}: update it`];
  }
  return leftMs > 0
    ? [`${what} expires at ${expires}, and then it does not start any more: update it`]
    : [];
}

function findNext(own: DeploymentTrust, { running, secureBoot }: Facts): NextMode | null {
  const { mode, sealed, verity } = own;
  const hasKeys = running?.anchors.signed === true;
  return findNextMode({
    ...{ mode, sealed, verity, secureBoot, hasKeys },
    unified: running?.unified === true,
  });
}
