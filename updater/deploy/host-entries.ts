// Boot entries that are lost or broken, in a check of the host side: which deployment was it, and can its
// entry be made again? It can when its state is complete and its image is here. Pure.
//
// The kernel arguments are those of the running deployment: the lost ones are nowhere else.

import { shortId } from "../../shared/bytes/hex.ts";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import {
  formatEntryName,
  makeEntryId,
  makeSortKey,
  parseEntryName,
} from "../../shared/format/bls/entry-name.ts";
import {
  formatCmdline,
  parseCmdline,
  replaceParameter,
} from "../../shared/format/kargs/cmdline.ts";
import { ARTEFACT_PREFIX } from "../boot/artefact-name.ts";
import { type BootEntry, isSealed } from "../boot/boot-entry.ts";
import type { BrokenEntry } from "../boot/entry-directory.ts";
import { UKI_PARENT } from "../boot/kernel-directory.ts";
import type { DeploymentFacts, HostFacts } from "./host-facts.ts";
import type { HostFinding, HostStep } from "./host-finding.ts";
import { makeImageParameter } from "./kargs-base.ts";
import { keepSourceKeys } from "./kargs-source.ts";
import type { World } from "./world.ts";

/** What the loader puts on the command line itself. */
const LOADER_PARAMETERS = new Set(["initrd", "BOOT_IMAGE"]);

export function judgeLostEntries(facts: HostFacts): readonly HostFinding[] {
  const { world } = facts;
  const found: HostFinding[] = [];
  const rebuilt = new Set<string>();
  for (const broken of world.brokenLive.filter(({ isOurs }) => isOurs)) {
    const meant = findMeant(facts, broken, rebuilt);
    const steps =
      meant === null ? dropSteps(facts, broken) : makeSteps(facts, meant, broken.fileName);
    if (meant !== null && steps.length > 0) rebuilt.add(meant.id);
    found.push({
      kind: "entry-broken",
      path: broken.fileName,
      problem: broken.problem,
      advice: "remove the file when no deployment is missing in the boot menu",
      steps,
    });
  }
  const needed = [...(world.booted === null ? [] : [world.booted.id]), ...world.pins];
  for (const id of needed.filter((each) => !hasEntry(world, each) && !rebuilt.has(each))) {
    const deployment = facts.deployments.get(id);
    found.push({
      kind: "entry-missing",
      path: shortId(id),
      problem: `The ${id === world.booted?.id ? "running" : "pinned"} deployment has no boot entry`,
      advice: "switch to its image again",
      steps: deployment === undefined ? [] : makeSteps(facts, deployment, null),
    });
  }
  return found;
}

function hasEntry(world: World, id: string): boolean {
  return world.live.some((entry) => entry.deploymentId === id);
}

/** Which deployment without an entry it was: the text says it, or the version in its name does. */
function findMeant(
  { world, deployments }: HostFacts,
  { fileName, bytes, mentions }: BrokenEntry,
  rebuilt: ReadonlySet<string>,
): DeploymentFacts | null {
  const lost = [...deployments.values()].filter(
    ({ id, image }) => image !== null && !hasEntry(world, id) && !rebuilt.has(id),
  );
  const text = Buffer.from(bytes ?? []).toString("latin1");
  const argument = /composefs=\??([0-9a-f]{64,128})(?![0-9a-f])/.exec(text)?.[1];
  const said = argument ?? (mentions.length === 1 ? mentions[0] : undefined);
  if (said !== undefined) return lost.find(({ id }) => id === said) ?? null;
  const entryId = parseEntryName(fileName)?.id ?? "";
  const ofVersion = lost.filter(({ id, image }) =>
    entryId.includes(`-${image?.osRelease.get("VERSION_ID") ?? id}-`),
  );
  const candidates = ofVersion.length === 0 ? lost : ofVersion;
  return candidates.length === 1 ? candidates[0]! : null;
}

/** When no deployment lacks an entry it was nobody's. */
function dropSteps({ world, deployments }: HostFacts, broken: BrokenEntry): readonly HostStep[] {
  const isLost = ({ id }: { readonly id: string }) => !hasEntry(world, id);
  const mayBeNeeded =
    broken.bytes === null || [...deployments.values()].some(isLost) || world.states.some(isLost);
  return mayBeNeeded || world.layout.loader === "grub"
    ? []
    : [{ kind: "remove-entry", fileName: broken.fileName }];
}

function makeSteps(
  facts: HostFacts,
  deployment: DeploymentFacts,
  fileName: string | null,
): readonly HostStep[] {
  const { world } = facts;
  const { id, image } = deployment;
  const state = world.states.find((candidate) => candidate.id === id);
  // What is in user.cfg is its author's.
  if (image?.kernel == null || state?.complete !== true || world.layout.userConfig !== null)
    return [];
  if (image.kernel.kind === "uki") {
    const artefact = `${ARTEFACT_PREFIX}${id}`;
    const isThere = world.ukis.includes(`${artefact}.efi`);
    const entry = makeEntry(facts, deployment, artefact, fileName);
    const write: HostStep = { kind: "write-entry", entry };
    return isThere ? [write] : [{ kind: "copy-uki", artefact, from: id }, write];
  }
  const expected = image.bootDigest ?? state.origin?.bootDigest ?? null;
  const equal = [...facts.kernels].find(
    ([, kernel]) => expected !== null && kernel?.bootDigest === expected,
  );
  const directory = equal?.[0] ?? `${ARTEFACT_PREFIX}${id}`;
  const copy: HostStep[] =
    equal === undefined ? [{ kind: "copy-kernel", directory, from: id }] : [];
  return [
    ...copy,
    { kind: "write-entry", entry: makeEntry(facts, deployment, directory, fileName) },
  ];
}

function makeEntry(
  { world, cmdline }: HostFacts,
  { id, image }: DeploymentFacts,
  kernelName: string,
  fileName: string | null,
) {
  const osRelease = image?.osRelease ?? new Map<string, string>();
  const osId = osRelease.get("ID") ?? "bootc";
  const version = osRelease.get("VERSION_ID") ?? osRelease.get("VERSION") ?? id;
  const position = world.live.filter(({ deploymentId }) => deploymentId !== null).length;
  const running = world.live.find(({ deploymentId }) => deploymentId === world.booted?.id);
  const isSealedImage = image?.unified?.isSealed === true;
  const options = parseCmdline(argumentsOf(running) ?? cmdline).filter(
    ({ key }) => !LOADER_PARAMETERS.has(key),
  );
  const parameter = makeImageParameter({
    id,
    verityOptional: world.booted?.verityOptional ?? false,
  });
  const path = `${world.layout.linuxPrefix}/${kernelName}`;
  const text = formatEntry({
    title: osRelease.get("PRETTY_NAME") ?? osRelease.get("NAME") ?? osId,
    version,
    target:
      image?.kernel?.kind === "uki"
        ? { kind: "efi", key: "efi", path: `/${UKI_PARENT}/${kernelName}.efi` }
        : { kind: "linux", linux: `${path}/vmlinuz`, initrds: [`${path}/initrd`] },
    options: isSealedImage ? "" : formatCmdline(replaceParameter(options, parameter)),
    machineId: null,
    sortKey: makeSortKey(osId, position),
    extra: isSealedImage ? [] : keepSourceKeys(running?.entry.extra ?? []),
  });
  return { fileName: fileName ?? freeName(world, osId, version, position), text };
}

/** What an entry gives its kernel, or what is in it; null when nobody knows. */
function argumentsOf(entry: BootEntry | undefined): string | null {
  if (entry === undefined) return null;
  const text = isSealed(entry) ? entry.cmdline : entry.entry.options;
  return text === "" ? null : text;
}

function freeName(world: World, osId: string, version: string, position: number): string {
  const taken = new Set(world.live.map(({ name }) => name.id.toLowerCase()));
  const priority = position === 0 ? 1 : 0;
  let id = makeEntryId(osId, version, priority);
  for (let n = 1; taken.has(id.toLowerCase()); n += 1)
    id = makeEntryId(osId, `${version}.${n}`, priority);
  return formatEntryName({ id, counter: null });
}
