// What a deployment keeps on the disk beside its image (bootc.md 4.1-4.3):
//
//   state/deploy/<id>/etc            its writable /etc
//   state/deploy/<id>/var            -> ../../os/default/var, shared by all
//   state/deploy/<id>/<id>.origin    where the image came from
//   state/deploy/<id>/<id>.policy.json  which policy accepted it, and by which signature (ours)
//   /run/composefs/staged-deployment what shutdown will make the default
//
// Reading is lenient: what is broken or half-written is reported, never fatal.

import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeError, isErrno } from "../../shared/error.ts";
import { isDeploymentId } from "../boot/boot-entry.ts";
import type { System } from "../boot/system.ts";
import { type Origin, parseOrigin } from "./origin.ts";
import { type PolicyRecord, parsePolicyRecord } from "./policy-record.ts";
import { parseStagedFile, type StagedFile } from "./staged-file.ts";

/** Hard-coded in bootc as well. */
export const VAR_DIRECTORY = "state/os/default/var";
const VAR_LINK = "../../os/default/var";
const DEPLOY_DIRECTORY = "state/deploy";
/** State that is still being written; may always be removed. */
const PARTIAL_PREFIX = ".partial-";

export interface StatePaths {
  readonly deploy: string;
  readonly directory: string;
  /** Where the directory is put together. */
  readonly partial: string;
  readonly etc: string;
  readonly var: string;
  readonly varTarget: string;
  readonly origin: string;
  readonly policy: string;
}

/** Absolute paths of one deployment's state. */
export function statePaths(physicalRoot: string, id: string): StatePaths {
  const deploy = join(physicalRoot, DEPLOY_DIRECTORY);
  const directory = join(deploy, id);
  return {
    deploy,
    directory,
    partial: join(deploy, `${PARTIAL_PREFIX}${id}`),
    etc: join(directory, "etc"),
    var: join(directory, "var"),
    varTarget: VAR_LINK,
    origin: join(directory, `${id}.origin`),
    policy: join(directory, policyRecordName(id)),
  };
}

export function policyRecordName(id: string): string {
  return `${id}.policy.json`;
}

export interface DeploymentState {
  readonly id: string;
  /** Null when missing or unreadable. */
  readonly origin: Origin | null;
  /** Whether `etc` and `var` are there: without them the initramfs cannot start the deployment. */
  readonly complete: boolean;
  /** How its image was accepted; absent when nobody wrote that down. */
  readonly policy?: PolicyRecord;
}

export interface StateListing {
  readonly states: readonly DeploymentState[];
  /** Names in `state/deploy` that are nobody's: interrupted work. */
  readonly leftovers: readonly string[];
  readonly problems: readonly string[];
}

export function readStates(physicalRoot: string): StateListing {
  const deploy = join(physicalRoot, DEPLOY_DIRECTORY);
  const states: DeploymentState[] = [];
  const leftovers: string[] = [];
  const problems: string[] = [];
  for (const name of listDirectory(deploy)) {
    if (name.startsWith(PARTIAL_PREFIX)) leftovers.push(name);
    else if (isDeploymentId(name)) states.push(readState(physicalRoot, name, problems));
    else problems.push(`"${join(deploy, name)}" is no deployment's state`);
  }
  return { states, leftovers, problems };
}

function readState(physicalRoot: string, id: string, problems: string[]): DeploymentState {
  const paths = statePaths(physicalRoot, id);
  let origin: Origin | null = null;
  try {
    origin = parseOrigin(readFileSync(paths.origin, "utf8"), paths.origin);
  } catch (error) {
    problems.push(`Deployment ${id.slice(0, 12)} has no usable origin: ${describeError(error)}`);
  }
  const complete = exists(paths.etc) && exists(paths.var);
  if (!complete) problems.push(`Deployment ${id.slice(0, 12)} has no etc or var in its state`);
  const policy = readPolicyRecord(paths, id, problems);
  return { id, origin, complete, ...(policy === null ? {} : { policy }) };
}

function readPolicyRecord(paths: StatePaths, id: string, problems: string[]): PolicyRecord | null {
  try {
    return parsePolicyRecord(readFileSync(paths.policy), paths.policy);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    problems.push(`Deployment ${id.slice(0, 12)}: ${describeError(error)}`);
    return null;
  }
}

export function stagedFilePath(system: System): string {
  return join(system.runDirectory, "composefs/staged-deployment");
}

/** Null when nothing is staged. */
export function readStagedFile(system: System): StagedFile | null {
  const path = stagedFilePath(system);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
  return parseStagedFile(text, path);
}

function listDirectory(path: string): readonly string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
