// What `bootc status` reports on a machine that ostree deployed (bootc.md 2.2 and 7, ostree.md 3, 5.5, 6.1): boot
// entries are the source of truth, the commit of a container image carries its manifest and config. What is wrong
// with one deployment is a problem in the report, never a reason to report nothing. Changes nothing.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import {
  type Dictionary,
  decodeDictionary,
  lookup,
  lookupBoolean,
  lookupString,
} from "../../shared/format/gvariant/dictionary.ts";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { type OstreeOrigin, parseOstreeOrigin } from "../../shared/format/ostree/origin.ts";
import type { StagedDeployment } from "../../shared/format/ostree/record.ts";
import { type OstreeRepository, openOstreeRepository } from "../../shared/ostree/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { openatIfExists, readAll } from "../../shared/sys/file.ts";
import { encodeDevice, fstatatIfExists } from "../../shared/sys/stat.ts";
import { isReadOnlyDevice } from "../boot/block-device.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";
import { type ImageReference, parseOriginReference } from "../image/reference.ts";
import { type CommitImages, readCommitImages } from "./commit-image.ts";
import { type OstreeDeployment, type OstreeSysroot, observeOstreeSysroot } from "./sysroot.ts";

export interface OstreeHostDeployment extends CommitImages {
  readonly stateroot: string;
  readonly commit: string;
  readonly serial: number;
  /** Null when it was not deployed from a container image. */
  readonly reference: ImageReference | null;
  readonly isPinned: boolean;
  /** Has packages or overrides of rpm-ostree on top of its image. */
  readonly isLayered: boolean;
  readonly canSoftReboot: boolean;
  /** Stays staged over shutdown until released. */
  readonly isLocked: boolean;
}

export interface OstreeHostState {
  readonly booted: OstreeHostDeployment | null;
  readonly staged: OstreeHostDeployment | null;
  readonly rollback: OstreeHostDeployment | null;
  readonly others: readonly OstreeHostDeployment[];
  readonly rollbackQueued: boolean;
  /** `ostree admin unlock` */
  readonly usrOverlay: { readonly readOnly: boolean; readonly isPersistent: boolean } | null;
  readonly readOnly: boolean;
  /** How the running deployment was started. */
  readonly start: OstreeStart;
  readonly problems: readonly string[];
}

/** What ostree-prepare-root noted; all false after a start without an initramfs of ours or ostree's. */
export interface OstreeStart {
  /** The root is an image, `composefs.enabled`. */
  readonly isImage: boolean;
  /** fs-verity was demanded of every file. */
  readonly requiresVerity: boolean;
  /** Path of the file with the keys that the commit was checked with; null: it was not. */
  readonly keyFile: string | null;
}

/** Groups of an origin that only rpm-ostree understands. */
const LAYERING_GROUPS = ["rpmostree", "packages", "overrides", "modules"];
const FILE_LIMIT_BYTES = 1 << 20;

/** A deployment before its commit was looked at. */
interface Candidate {
  readonly deployment: Pick<OstreeDeployment, "stateroot" | "commit" | "serial" | "origin">;
  readonly bootChecksum: string | null;
  /** Without `ostree=`; null: unknown. */
  readonly kernelArguments: string | null;
  readonly isLocked: boolean;
}

/** What prepare-root left in /run/ostree-booted; empty after a start without initramfs. */
type BootedRecord = Dictionary;

export function readOstreeHost(system: System): OstreeHostState {
  const sysroot = observeOstreeSysroot(system.root, system.runDirectory);
  const problems = [...sysroot.problems];
  const record = readBootedRecord(system, problems);
  const booted = findBooted(system, sysroot, record);
  if (booted === null) {
    problems.push("No boot entry leads to the deployment that is running");
  }
  using repo = openOstreeRepository(join(system.root, "ostree/repo"));
  const describe = (candidate: Candidate) =>
    describeDeployment(repo, candidate, problems, () =>
      canSoftReboot(system, record, candidate, booted),
    );
  const slots = sortIntoSlots(sysroot.deployments, booted);
  const staged = sysroot.staged === null ? null : stagedCandidate(system, sysroot.staged);
  const physicalRoot = findMount(system.mounts, system.physicalRoot);
  return {
    staged: staged === null ? null : describe(staged),
    booted: booted === null ? null : describe(toCandidate(booted)),
    rollback: slots.rollback === null ? null : describe(toCandidate(slots.rollback)),
    others: slots.others.map((each) => describe(toCandidate(each))),
    rollbackQueued: slots.rollbackQueued,
    usrOverlay: booted === null ? null : readOverlay(system, booted),
    readOnly: physicalRoot !== null && isReadOnlyDevice(system, physicalRoot),
    start: readStart(record),
    problems,
  };
}

function readStart(record: BootedRecord): OstreeStart {
  return {
    isImage: lookupBoolean(record, "composefs") ?? false,
    requiresVerity: lookupBoolean(record, "composefs.verity") ?? false,
    keyFile: lookupString(record, "composefs.signed"),
  };
}

function readBootedRecord(system: System, problems: string[]): BootedRecord {
  try {
    using fd = openatIfExists(null, join(system.runDirectory, "ostree-booted"), O.RDONLY);
    const bytes = fd === null ? new Uint8Array(0) : readAll(fd, FILE_LIMIT_BYTES);
    return bytes.length === 0 ? [] : decodeDictionary(bytes);
  } catch (error) {
    problems.push(`What was booted is unknown: ${describeError(error)}`);
    return [];
  }
}

/** As libostree finds it: the directory that prepare-root noted, else the one that is the root. */
function findBooted(
  system: System,
  { deployments }: OstreeSysroot,
  record: BootedRecord,
): OstreeDeployment | null {
  const noted = lookup(record, "backing-root-device-inode", "(tt)") as [bigint, bigint] | null;
  const [device, inode] = noted ?? identify(system.root) ?? [0n, 0n];
  const isBooted = ({ path }: OstreeDeployment) => {
    const identity = identify(join(system.root, path));
    return identity !== null && identity[0] === device && identity[1] === inode;
  };
  return deployments.find(isBooted) ?? null;
}

function identify(path: string): [device: bigint, inode: bigint] | null {
  const stat = fstatatIfExists(null, path);
  if (stat === null) return null;
  return [BigInt(encodeDevice(stat.devMajor, stat.devMinor)), BigInt(stat.ino)];
}

/** The rollback is the first of the same stateroot that does not run; it boots next when it comes before. */
function sortIntoSlots(deployments: readonly OstreeDeployment[], booted: OstreeDeployment | null) {
  const isRelated = ({ stateroot }: OstreeDeployment) => stateroot === booted?.stateroot;
  const rest = deployments.filter((each) => each !== booted);
  const rollback = rest.find(isRelated) ?? null;
  const remaining = rest.filter((each) => each !== rollback);
  return {
    rollback,
    others: [
      ...remaining.filter(isRelated),
      ...remaining.filter((deployment) => !isRelated(deployment)),
    ],
    rollbackQueued:
      rollback !== null &&
      booted !== null &&
      deployments.indexOf(rollback) < deployments.indexOf(booted),
  };
}

function toCandidate(deployment: OstreeDeployment): Candidate {
  return {
    deployment,
    bootChecksum: deployment.boot.bootChecksum,
    kernelArguments: withoutTarget(deployment.entry.options),
    isLocked: false,
  };
}

function stagedCandidate(system: System, staged: StagedDeployment): Candidate {
  const { target, kernelArguments } = staged;
  const name = `${target.commit}.${target.serial}.origin`;
  const path = join(system.root, "ostree/deploy", target.stateroot, "deploy", name);
  return {
    deployment: { ...target, origin: readOrigin(path) },
    bootChecksum: target.bootChecksum,
    kernelArguments: kernelArguments === null ? null : withoutTarget(kernelArguments.join(" ")),
    isLocked: staged.isLocked,
  };
}

function readOrigin(path: string): OstreeOrigin | null {
  using fd = openatIfExists(null, path, O.RDONLY | O.NONBLOCK);
  if (fd === null) return null;
  return parseOstreeOrigin(Buffer.from(readAll(fd, FILE_LIMIT_BYTES)).toString("utf8"), path);
}

function withoutTarget(options: string): string {
  return formatCmdline(parseCmdline(options).filter(({ key }) => key !== "ostree"));
}

function describeDeployment(
  repo: OstreeRepository,
  { deployment, isLocked }: Candidate,
  problems: string[],
  canSoftReboot: () => boolean,
): OstreeHostDeployment {
  const { stateroot, commit, serial, origin } = deployment;
  const name = `${shortId(commit)}.${serial}`;
  const attempt = <T>(action: () => T): T | null => {
    try {
      return action();
    } catch (error) {
      problems.push(`Deployment ${name}: ${describeError(error)}`);
      return null;
    }
  };
  const text = origin?.containerImageReference ?? null;
  const reference = text === null ? null : attempt(() => parseOriginReference(text));
  const images = reference === null ? null : attempt(() => readCommitImages(repo, commit));
  return {
    stateroot,
    commit,
    serial,
    reference,
    current: images?.current ?? null,
    update: images?.update ?? null,
    isPinned: origin?.isPinned ?? false,
    isLayered: LAYERING_GROUPS.some((group) => origin?.keyfile.has(group) ?? false),
    canSoftReboot: canSoftReboot(),
    isLocked,
  };
}

/**
 * libostree's conditions (ostree.md 1.7): the running root is composefs, kernel and arguments are the same. Machines
 * with SELinux are left out, since their policies would have to be compared.
 */
function canSoftReboot(
  system: System,
  record: BootedRecord,
  candidate: Candidate,
  booted: OstreeDeployment | null,
): boolean {
  if (booted === null || candidate.deployment === booted) return false;
  return (
    (lookupBoolean(record, "composefs") ?? false) &&
    candidate.bootChecksum === booted.boot.bootChecksum &&
    candidate.kernelArguments === withoutTarget(booted.entry.options) &&
    existsSync(join(system.root, "usr/lib/systemd/system/soft-reboot.target")) &&
    !existsSync(join(system.root, "etc/selinux/config"))
  );
}

function readOverlay(
  system: System,
  { commit, serial, origin }: OstreeDeployment,
): OstreeHostState["usrOverlay"] {
  const state = join(system.runDirectory, `ostree/deployment-state/${commit}.${serial}`);
  if (existsSync(join(state, "unlocked-development"))) {
    return { readOnly: false, isPersistent: false };
  }
  if (existsSync(join(state, "unlocked-transient"))) return { readOnly: true, isPersistent: false };
  return origin?.isUnlocked === true ? { readOnly: false, isPersistent: true } : null;
}
