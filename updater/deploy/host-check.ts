// What is wrong with the host side of a machine: boot entries, kernels, states, origins, what is staged,
// leftovers. Pure: facts in, findings out, each with the steps that mend it, or none when nothing safe would.
// A step only writes what follows from intact data, or removes what can start nothing.

import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { planFinalize } from "./finalize-plan.ts";
import { judgeLostEntries } from "./host-entries.ts";
import type { DeploymentFacts, HostFacts } from "./host-facts.ts";
import type { HostFinding, HostStep } from "./host-finding.ts";
import { judgeOrigin } from "./host-origins.ts";
import { checkUnified } from "./host-unified.ts";
import { statePaths, VAR_LINK } from "./state-directory.ts";
import { findTrialEntry } from "./trial.ts";
import type { World } from "./world.ts";

const SWITCH = "switch to the image it should run";

export function checkHost(facts: HostFacts): readonly HostFinding[] {
  const { world } = facts;
  return [
    ...checkReadable(world),
    ...judgeLostEntries(facts),
    ...checkEntries(facts),
    ...checkKernels(facts),
    ...checkUnified(facts),
    ...[...facts.deployments.values()].flatMap((each) => checkState(facts, each)),
    ...checkStaged(world),
    ...checkLeftovers(facts),
  ];
}

function checkReadable({ unread, problems }: World): readonly HostFinding[] {
  const parts = unread.filter((part) => part !== "staged-file");
  return parts.map((part) => ({
    kind: "entries-unreadable",
    path: part,
    problem: `It cannot be read (${problems.join("; ")})`,
    advice: "look for errors of the disk in the kernel log",
    steps: [],
  }));
}

function checkEntries(facts: HostFacts): readonly HostFinding[] {
  const { world } = facts;
  const ours = world.live.filter((entry) => entry.deploymentId !== null);
  const hasState = (entry: BootEntry) => world.states.some(({ id }) => id === entry.deploymentId);
  const isBooted = (entry: BootEntry) => entry.deploymentId === world.booted?.id;
  const dead = ours.filter((entry) => !hasState(entry) && !isBooted(entry));
  // GRUB's menu is a file, or has a copy that is one: only a whole new menu changes it.
  const canEdit = world.layout.loader !== "grub";
  return [
    ...dead.map(
      (entry): HostFinding => ({
        kind: "entry-dead",
        path: entry.fileName,
        problem: `It starts deployment ${shortId(entry.deploymentId!)}, of which there is no state`,
        advice: "remove it: it cannot start",
        steps:
          canEdit && ours.some(isBooted)
            ? [{ kind: "remove-entry", fileName: entry.fileName }]
            : [],
      }),
    ),
    ...findDuplicates(world, ours).map(
      (entry): HostFinding => ({
        kind: "entry-duplicate",
        path: entry.fileName,
        problem: `Another entry starts deployment ${shortId(entry.deploymentId!)} as well`,
        advice: "remove one of them",
        steps: canEdit ? [{ kind: "remove-entry", fileName: entry.fileName }] : [],
      }),
    ),
    ...findOldNames(world).map(
      (name): HostFinding => ({
        kind: "old-name",
        path: name,
        problem:
          "It has the name of a kernel from before bootc 1.16, which newer ones rename less carefully",
        advice: 'let "fsck --repair" or the next update give it the new one',
        steps: [{ kind: "rename-artefacts" }],
      }),
    ),
  ];
}

/** All but the first of a deployment; of one on trial, all but the one that is counted. */
function findDuplicates(world: World, ours: readonly BootEntry[]): readonly BootEntry[] {
  const trial = findTrialEntry(world);
  return ours.filter((entry) => {
    const same = ours.filter(({ deploymentId }) => deploymentId === entry.deploymentId);
    return entry !== (same.find((candidate) => candidate === trial) ?? same[0]);
  });
}

export function findOldNames(world: World): readonly string[] {
  const used = new Set(world.live.map(({ artefact }) => artefact));
  const ukis = world.ukis.map((name) => name.replace(/\.efi(\.extra\.d)?$/, ""));
  const names = [...new Set([...world.kernels, ...ukis])];
  return names.filter((name) => isDeploymentId(name) && used.has(name));
}

function checkKernels(facts: HostFacts): readonly HostFinding[] {
  const { world, kernels, deployments } = facts;
  const seen = new Set<string>();
  return world.live.flatMap(({ artefact, deploymentId, entry }): HostFinding[] => {
    if (artefact === null || deploymentId === null || seen.has(artefact)) return [];
    seen.add(artefact);
    // Unified ones: host-unified.ts.
    if (entry.target.kind !== "linux") return [];
    const found = kernels.get(artefact) ?? null;
    const owners = world.live.filter((each) => each.artefact === artefact);
    const originals = owners.flatMap((each) => deployments.get(each.deploymentId ?? "") ?? []);
    const original = originals.find(({ image }) => image?.kernel?.kind === "bls");
    const expected =
      original?.image?.bootDigest ?? originOf(world, deploymentId)?.bootDigest ?? null;
    const isMissing = found === null || !found.isComplete;
    const isDamaged = !facts.metadataOnly && expected !== null && found?.bootDigest !== expected;
    if (!isMissing && !isDamaged) return [];
    return [
      {
        kind: isMissing ? "kernel-missing" : "kernel-damaged",
        path: artefact,
        problem: `${isMissing ? "Kernel or initramfs is missing" : "Kernel and initramfs are not those of the image"}; ${owners.map((each) => each.fileName).join(", ")} cannot start`,
        advice: SWITCH,
        steps: original ? [{ kind: "copy-kernel", directory: artefact, from: original.id }] : [],
      },
    ];
  });
}

function originOf(world: World, id: string) {
  return world.states.find((state) => state.id === id)?.origin ?? null;
}

function checkState(facts: HostFacts, deployment: DeploymentFacts): readonly HostFinding[] {
  const { world, physicalRoot, hasVar } = facts;
  const { id, varTarget } = deployment;
  const state = world.states.find((candidate) => candidate.id === id);
  if (state === undefined) return [];
  const paths = statePaths(physicalRoot, id);
  const incomplete: HostFinding[] = state.complete
    ? []
    : [
        {
          kind: "state-incomplete",
          path: paths.directory,
          problem: "It has no etc or var, so the deployment cannot start",
          advice: `delete the deployment, or ${SWITCH}`,
          steps: [
            ...(hasVar ? [] : [{ kind: "make-var" } as const]),
            ...(varTarget === VAR_LINK ? [] : [{ kind: "link-var", id } as const]),
          ],
        },
      ];
  return [...incomplete, ...judgeOrigin(facts, deployment, state)];
}

function checkStaged(world: World): readonly HostFinding[] {
  const drop = { steps: [{ kind: "drop-staged" }], advice: "stage the image again" } as const;
  if (world.unread.includes("staged-file")) {
    const problem =
      "The record of the staged deployment cannot be understood, so it is not applied";
    return [{ kind: "staged-broken", path: "composefs/staged-deployment", problem, ...drop }];
  }
  if (world.stagedFile === null) {
    if (world.staged === null) return [];
    const problem = "Boot entries were staged before the last start and never applied";
    return [{ kind: "staged-leftover", path: "loader/entries.staged", problem, ...drop }];
  }
  try {
    planFinalize({ ...world, stagedFile: { ...world.stagedFile, locked: false } });
    return [];
  } catch (error) {
    const path = "composefs/staged-deployment";
    return [{ kind: "staged-unusable", path, problem: describeError(error), ...drop }];
  }
}

function checkLeftovers({ world, physicalRoot, brokenRecords }: HostFacts): readonly HostFinding[] {
  const leftover = (path: string, step: HostStep): HostFinding => ({
    kind: "leftover",
    path,
    problem: "It is of work that was interrupted",
    advice: "remove it",
    steps: [step],
  });
  const { deploy } = statePaths(physicalRoot, "");
  return [
    ...world.leftovers
      .map((name) => `${deploy}/${name}`)
      .map((path) => leftover(path, { kind: "remove", path })),
    ...world.strays.map((path) => leftover(path, { kind: "remove-stray", path })),
    ...brokenRecords.map(
      (path): HostFinding => ({
        kind: "record-broken",
        path,
        problem: "It cannot be understood, and is ignored",
        advice: "remove it",
        steps: [{ kind: "remove", path }],
      }),
    ),
  ];
}
