// Soft reboots: deciding, preparing, and the shutdown that leads into one (docs/soft-reboot.md).
//
// Preparing mounts the deployment at once, so that everything that can fail fails while somebody looks. At
// shutdown finalizing makes the deployment's /etc anew, and what was mounted is mounted again with it. A soft
// reboot that cannot go where it should starts what runs once more; if not even that works, the machine
// restarts as a whole.

import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { OwnProgram } from "../boot/own-program.ts";
import { runProgram } from "../boot/program.ts";
import type { System } from "../boot/system.ts";
import type { Deployer } from "./deployer.ts";
import { finalizeStaged } from "./finalize.ts";
import { type FinalizePlan, planFinalize } from "./finalize-plan.ts";
import { forgetFailedChecks } from "./health-checks.ts";
import {
  describeSettings,
  mountNextRoot,
  type RootMount,
  readMounts,
  readNextRoot,
} from "./next-root.ts";
import { notePending } from "./pending.ts";
import { readSoftRebootFacts } from "./soft-reboot-facts.ts";
import {
  planShutdown,
  planSoftReboot,
  replaceImage,
  type Shutdown,
  type ShutdownPlan,
  type SoftRebootPlan,
} from "./soft-reboot-plan.ts";
import { readStagedFile } from "./state-directory.ts";
import { observeWorld, requireBooted, type World } from "./world.ts";

type Refusal = Extract<SoftRebootPlan, { kind: "refused" }>;

/** For `status`: whether it could be done. Conflicts in /etc are not looked for. */
export function canSoftReboot(system: System, repo: Repository, world: World, id: string): boolean {
  try {
    const facts = { ...readSoftRebootFacts(system, repo, world), conflicts: () => [] };
    return planSoftReboot(world, facts, id).kind === "possible";
  } catch {
    // What is broken is reported where it is looked at for its own sake.
    return false;
  }
}

/** Whether the running kernel can go on with this deployment, and how. */
export function decideSoftReboot(
  { system, repo }: Deployer,
  world: World,
  id: string,
): SoftRebootPlan {
  return planSoftReboot(world, readSoftRebootFacts(system, repo, world), id);
}

export function refuseSoftReboot({ id, reasons }: Refusal): StateError {
  return new StateError(
    "conflict",
    `Cannot soft-reboot into deployment ${shortId(id)}: ${reasons.join("; ")}; "systemctl reboot" restarts the whole machine`,
    { id },
  );
}

export interface ShutdownTools {
  readonly program: OwnProgram;
  readonly shutdown: Shutdown;
  /** Restarts the machine without stopping services first. */
  readonly forceReboot: () => void;
}

export interface ShutdownOutcome {
  readonly plan: ShutdownPlan;
  /** Null when what is staged has to wait. */
  readonly finalized: FinalizePlan | null;
}

/**
 * What the finalize unit does when it is stopped, as `planShutdown` says. When it throws, it has seen to it
 * that a soft reboot leads to where the machine can live.
 */
export function finishRunning(
  deployer: Deployer,
  world: World,
  tools: ShutdownTools,
): ShutdownOutcome {
  const { system } = deployer;
  const { program, shutdown } = tools;
  const plan = planShutdown(world, shutdown, readNextRoot(system, program));
  try {
    const root = plan.mount === null ? null : describeRoot(deployer, world, program, plan.mount);
    const finalized = plan.finalize ? finalizeStaged(deployer, world) : null;
    if (root !== null) enter(deployer, world, program, root);
    return { plan, finalized };
  } catch (error) {
    if (shutdown === "soft-reboot") stay(deployer, world, tools);
    throw error;
  }
}

/** For `--dry-run`. */
export function planShutdownNow(system: System, world: World, tools: ShutdownTools): object {
  const plan = planShutdown(world, tools.shutdown, readNextRoot(system, tools.program));
  const finalize = plan.finalize ? planFinalize(world) : null;
  return {
    ...(finalize ?? { kind: "nothing", reason: "A soft reboot leaves it staged" }),
    nextRoot: plan.mount,
  };
}

/** StateError when what was possible when it was prepared no longer is. */
function describeRoot(
  deployer: Deployer,
  world: World,
  program: OwnProgram,
  id: string,
): RootMount {
  if (id === world.booted?.id) return describeRunning(deployer.system, world, program);
  const plan = decideSoftReboot(deployer, world, id);
  if (plan.kind === "refused") throw refuseSoftReboot(plan);
  return { id, cmdline: plan.cmdline, settings: plan.settings };
}

function enter(
  { boot, system }: Deployer,
  world: World,
  program: OwnProgram,
  root: RootMount,
): void {
  // /run outlives a soft reboot: what it says about the next start has to be true for what comes.
  forgetFailedChecks(system);
  if (root.id !== world.booted?.id) {
    notePending(system, boot, { ...requireBooted(world), id: root.id });
  }
  mountNextRoot(system, program, root);
}

/** Without a root on /run/nextroot systemd would go on in this one, whose /var is unmounted by then. */
function stay(deployer: Deployer, world: World, { forceReboot, program }: ShutdownTools): void {
  try {
    // Once the entries are exchanged, what runs is not what is meant to run.
    if (isCommitted(deployer, world)) forceReboot();
    else mountNextRoot(deployer.system, program, describeRunning(deployer.system, world, program));
  } catch {
    forceReboot();
  }
}

/** Whether finalizing got as far as the exchange; the note of what is staged goes after it. */
function isCommitted({ boot, system }: Deployer, { booted, stagedFile }: World): boolean {
  if (stagedFile === null) return false;
  if (readStagedFile(system) === null) return true;
  const { live } = observeWorld(system, boot, booted);
  return live.find(({ deploymentId }) => deploymentId !== null)?.deploymentId === stagedFile.id;
}

/** What runs, to be mounted once more and in the same way, whatever its image says about that. */
function describeRunning(system: System, world: World, program: OwnProgram): RootMount {
  const { id, verityOptional } = requireBooted(world);
  const cmdline = replaceImage(system.cmdline, `composefs=${verityOptional ? "?" : ""}${id}`);
  return { id, cmdline, settings: describeSettings(readMounts(program), system.root) };
}

/** Which job systemd is stopping everything for. */
export function readShutdown(): Shutdown {
  const words = ["list-jobs", "--plain", "--no-legend", "--no-pager"];
  return parseShutdown(runProgram("systemctl", words, { package: "systemd" }));
}

/** Lines as "  12 soft-reboot.target  start  waiting". */
export function parseShutdown(jobs: string): Shutdown {
  const starting = jobs
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , type]) => type === "start")
    .map(([, unit]) => unit);
  if (starting.includes("soft-reboot.target")) return "soft-reboot";
  return starting.includes("shutdown.target") ? "other" : "none";
}
