// Unified kernels and addons in a check of the host side (docs/cleanup.md): are they there, are they the image's, and
// do they start what their entries say? Pure.

import { shortId } from "../../shared/bytes/hex.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { UKI_PARENT } from "../boot/kernel-directory.ts";
import type { HostFacts } from "./host-facts.ts";
import type { HostFinding, HostStep } from "./host-finding.ts";
import { nameDifferent } from "./kernel-plan.ts";

const SWITCH = "switch to the image it should run";

export function checkUnified(facts: HostFacts): readonly HostFinding[] {
  const ours = facts.world.live.filter(
    ({ artefact, entry }) => artefact !== null && entry.target.kind === "efi",
  );
  const kernels = new Map(ours.map((entry) => [entry.artefact, entry]));
  return [
    ...[...kernels.values()].flatMap((entry) => checkKernel(facts, entry)),
    ...checkAddons(facts),
    ...checkOrphans(facts),
  ];
}

function checkKernel(facts: HostFacts, entry: BootEntry): readonly HostFinding[] {
  const { world, deployments, ukis } = facts;
  const { artefact, deploymentId } = entry;
  if (artefact === null || deploymentId === null) return [];
  const path = `${artefact}.efi`;
  const image = deployments.get(deploymentId)?.image ?? null;
  const steps: readonly HostStep[] =
    image?.unified === undefined ? [] : [{ kind: "copy-uki", artefact, from: deploymentId }];
  const find = (kind: HostFinding["kind"], problem: string): readonly HostFinding[] => [
    { kind, path, problem, advice: SWITCH, steps },
  ];
  if (!world.ukis.includes(path)) {
    return find("kernel-missing", "The unified kernel is missing; its entry cannot start");
  }
  const state = ukis.get(artefact);
  if (!facts.metadataOnly && isDamaged(facts, deploymentId, state)) {
    return find(
      "kernel-damaged",
      `The unified kernel is not the image's; ${entry.fileName} may not start`,
    );
  }
  const named = namedImages(entry);
  // Beside its own, ids of other formats and algorithms are fine, as long as nothing here has one.
  const others = named.filter(
    (id) =>
      id !== deploymentId &&
      (!named.includes(deploymentId) || world.states.some((state) => state.id === id)),
  );
  if (others.length === 0) return [];
  return find(
    "kernel-wrong",
    `It starts deployment ${others.map(shortId).join(", ")}, and ${entry.fileName} is of ${shortId(deploymentId)}`,
  );
}

function isDamaged(
  { world, deployments }: HostFacts,
  id: string,
  state: { readonly sha256: string | null; readonly bootDigest: string | null } | undefined,
): boolean {
  const expected = deployments.get(id)?.image?.unified?.sha256 ?? null;
  if (expected !== null) return state?.sha256 !== expected;
  const digest = world.states.find((each) => each.id === id)?.origin?.bootDigest ?? null;
  return state?.bootDigest == null || (digest !== null && state.bootDigest !== digest);
}

/** By the arguments of the entry, or those in the kernel. */
function namedImages({ cmdline }: BootEntry): readonly string[] {
  try {
    return parseComposefsKargs(cmdline).map(({ digest }) => digest);
  } catch {
    return ["nothing, its arguments are malformed"];
  }
}

/** Addons for every kernel, which deployments that boot have written down. */
function checkAddons({
  world,
  deployments,
  addons,
  metadataOnly,
}: HostFacts): readonly HostFinding[] {
  const ids = new Set(world.live.map(({ deploymentId }) => deploymentId));
  return world.states.flatMap(({ id, addons: needed = [] }): HostFinding[] => {
    if (!ids.has(id)) return [];
    const known = deployments.get(id)?.image?.unified?.globalAddons ?? [];
    return needed.flatMap((name): HostFinding[] => {
      const original = known.find((each) =>
        [each.name, nameDifferent(each.name, each.sha256 ?? "")].includes(name),
      );
      const isMissing = !world.globalAddons.includes(name);
      const isOther =
        !metadataOnly && original !== undefined && addons.get(name) !== original.sha256;
      if (!isMissing && !isOther) return [];
      return [
        {
          kind: isMissing ? "addon-missing" : "addon-damaged",
          path: name,
          problem: `Deployment ${shortId(id)} needs this addon, and it is ${isMissing ? "not there" : "another one than the image's"}`,
          advice: SWITCH,
          steps: original === undefined ? [] : [{ kind: "copy-addon", name, from: id }],
        },
      ];
    });
  });
}

/** Addons of a kernel that is gone, and that no entry names. */
function checkOrphans({ world }: HostFacts): readonly HostFinding[] {
  const entries = [...world.live, ...(world.staged ?? [])];
  const used = new Set(entries.map(({ artefact }) => artefact));
  const isOrphan = (name: string) => {
    const artefact = name.replace(/\.efi\.extra\.d$/, "");
    return artefact !== name && !used.has(artefact) && !world.ukis.includes(`${artefact}.efi`);
  };
  return world.ukis.filter(isOrphan).map((name) => ({
    kind: "leftover",
    path: name,
    problem: "It has addons of a unified kernel that is not there",
    advice: "remove it",
    // With GRUB it is on another partition.
    steps:
      world.layout.loader === "grub"
        ? []
        : [{ kind: "remove-stray", path: `${UKI_PARENT}/${name}` }],
  }));
}
