// `bootc switch --mutate-in-place TARGET`: the deployment that boots next follows another image; nothing is
// fetched (bootc.md 1.2). Unlike every other verb it also works on a disk that is not running, at /sysroot, which
// is where installers call it.

import { readSystem } from "../boot/system.ts";
import { detectEnvironment } from "../deploy/environment.ts";
import {
  applyFollow,
  type FollowPlan,
  findInstalledDeployment,
  findNextDeployment,
  planFollow,
} from "../deploy/follow.ts";
import { notePending } from "../deploy/pending.ts";
import { observeWorld } from "../deploy/world.ts";
import { displayReference, type ImageReference } from "../image/reference.ts";
import { recordEvent } from "../journal/events.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession, requireRoot } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function switchInPlace(
  terminal: Terminal,
  reference: ImageReference,
  dryRun: boolean,
): void {
  const here = readSystem();
  if (detectEnvironment(here, process.env).kind !== "composefs") {
    requireRoot();
    const id = findInstalledDeployment(here.physicalRoot);
    carryOut(terminal, planFollow(here.physicalRoot, id, reference), reference, dryRun);
    return;
  }
  using session = openSession("write", "switch");
  const { system, boot, booted } = session;
  const id = findNextDeployment(observeWorld(system, boot, booted));
  carryOut(terminal, planFollow(system.physicalRoot, id, reference), reference, dryRun);
  if (!dryRun) notePending(system, boot, booted);
}

function carryOut(
  terminal: Terminal,
  plan: FollowPlan,
  reference: ImageReference,
  dryRun: boolean,
): void {
  if (dryRun) {
    terminal.write(formatPlan({ kind: "follow", ...plan }));
    return;
  }
  applyFollow(plan);
  const message = `Updated ${plan.id} to pull from ${displayReference(reference)}`;
  recordEvent(readSystem(), "originChanged", message, {
    IMAGE: displayReference(reference),
    DEPLOYMENT: plan.id,
    PREVIOUS_IMAGE: plan.previous,
  });
  terminal.line(message);
}
