// What a deployment keeps on the disk beside its image (bootc.md 4.1-4.3):
//
//   state/deploy/<id>/etc            its writable /etc
//   state/deploy/<id>/var            -> ../../os/default/var, shared by all
//   state/deploy/<id>/<id>.origin    where the image came from
//   state/deploy/<id>/<id>.imginfo what bootc once wrote instead of parts of the origin
//   state/deploy/<id>/<id>.policy.json  which policy accepted it, and by which signature (ours)
//   state/deploy/<id>/<id>.statement    the signed statement that prepare-root wants to see (ours)
//   state/deploy/<id>/<id>.trust.json   what its image trusts, for status (ours)
//   state/deploy/<id>/<id>.addons       which addons for every unified kernel it needs (ours)
//   /run/composefs/staged-deployment what shutdown will make the default
//
// Reading is lenient: what is broken or half-written is reported, never fatal.

import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError, isErrno, StateError } from "../../shared/error.ts";
import { MAX_DOCUMENT_BYTES } from "../../shared/format/trust/statement.ts";
import { decodeText, readSmallFile, readSmallText } from "../../shared/sys/small-file.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";
import type { System } from "../boot/system.ts";
import type { ImageTrust } from "../trust/image-trust.ts";
import { parseTrustRecord } from "../trust/trust-record.ts";
import { addonRecordName, parseAddonRecord } from "./addon-record.ts";
import { parseLegacyImage } from "./legacy-image.ts";
import { type Origin, parseOrigin } from "./origin.ts";
import { type PolicyRecord, parsePolicyRecord } from "./policy-record.ts";
import { parseStagedFile, type StagedFile } from "./staged-file.ts";

/** Hard-coded in bootc as well. */
export const VAR_DIRECTORY = "state/os/default/var";
export const VAR_LINK = "../../os/default/var";
const DEPLOY_DIRECTORY = "state/deploy";
/** State that is still being written; may always be removed. */
const PARTIAL_PREFIX = ".partial-";
const STAGED_LIMIT_BYTES = 64 * 1024;
const ORIGIN_LIMIT_BYTES = 1024 * 1024;
const RECORD_LIMIT_BYTES = 8 * 1024 * 1024;

export interface StatePaths {
  readonly deploy: string;
  readonly directory: string;
  /** Where the directory is put together. */
  readonly partial: string;
  readonly etc: string;
  readonly var: string;
  readonly varTarget: string;
  readonly origin: string;
  /** Legacy only. */
  readonly imageRecord: string;
  readonly policy: string;
  readonly statement: string;
  readonly trust: string;
  readonly addons: string;
  /** Empty file (ours): keep this deployment. */
  readonly pin: string;
  /** The rules for /etc as they were when it was staged (ours). */
  readonly etcRules: string;
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
    imageRecord: join(directory, `${id}.imginfo`),
    policy: join(directory, policyRecordName(id)),
    statement: join(directory, statementName(id)),
    trust: join(directory, trustRecordName(id)),
    addons: join(directory, addonRecordName(id)),
    pin: join(directory, `${id}.pinned`),
    etcRules: join(directory, etcRulesName(id)),
  };
}

export function etcRulesName(id: string): string {
  return `${id}.etc-merge.json`;
}

export function policyRecordName(id: string): string {
  return `${id}.policy.json`;
}

export function statementName(id: string): string {
  return `${id}.statement`;
}

export function trustRecordName(id: string): string {
  return `${id}.trust.json`;
}

export interface DeploymentState {
  readonly id: string;
  /** Null when missing or unreadable. */
  readonly origin: Origin | null;
  /** Whether `etc` and `var` are directories: without them the initramfs cannot start the deployment. */
  readonly complete: boolean;
  /** The manifest's digest is from an old record, and may be another one than the repository's. */
  readonly digestUncertain?: true;
  /** Somebody wants to keep it, whatever boots. */
  readonly isPinned?: boolean;
  /** How its image was accepted; absent when nobody wrote that down. */
  readonly policy?: PolicyRecord;
  /** Names of the addons for every unified kernel that it needs; absent when nobody knows. */
  readonly addons?: readonly string[];
  /** The signed statement beside it, whatever it is worth. */
  readonly statement?: Uint8Array;
  /** What its image trusts; absent when nobody wrote that down. */
  readonly trust?: ImageTrust;
}

export interface StateListing {
  readonly states: readonly DeploymentState[];
  /** Names in `state/deploy` that are nobody's: interrupted work. */
  readonly leftovers: readonly string[];
  readonly problems: readonly string[];
}

/** Throws when `state/deploy` cannot be listed. */
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
  const tell = (problem: string) => problems.push(`Deployment ${shortId(id)} ${problem}`);
  const origin = readOrigin(paths, tell);
  const missing = (["etc", "var"] as const).filter((name) => !isDirectory(paths[name]));
  if (missing.length > 0) tell(`has no ${missing.join(" or ")} in its state`);
  const policy = readPart(paths.policy, RECORD_LIMIT_BYTES, parsePolicyRecord, tell);
  const statement = readPart(paths.statement, MAX_DOCUMENT_BYTES, (bytes) => bytes, tell);
  const trust = readPart(paths.trust, RECORD_LIMIT_BYTES, parseTrustRecord, tell);
  const addons = readPart(
    paths.addons,
    RECORD_LIMIT_BYTES,
    (bytes, path) => parseAddonRecord(decodeText(bytes, path), path),
    tell,
  );
  const isUncertain = origin?.isUncertain === true;
  return {
    id,
    origin: origin?.origin ?? null,
    complete: missing.length === 0,
    ...(isUncertain ? { digestUncertain: true } : {}),
    ...(isPinned(paths) ? { isPinned: true } : {}),
    ...(policy === null ? {} : { policy }),
    ...(addons === null ? {} : { addons }),
    ...(statement === null ? {} : { statement }),
    ...(trust === null ? {} : { trust }),
  };
}

/** Whatever has the name is a pin: better too many than too few. */
function isPinned({ pin }: StatePaths): boolean {
  try {
    return lstatSync(pin, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    return !isErrno(error, "ENOTDIR");
  }
}

/** What the origin does not say, an old record may. */
function readOrigin(
  paths: StatePaths,
  tell: (problem: string) => void,
): { readonly origin: Origin; readonly isUncertain: boolean } | null {
  let origin: Origin | null = null;
  try {
    origin = readOriginFile(paths.origin);
  } catch (error) {
    tell(`has no usable origin: ${describeError(error)}`);
  }
  if (origin === null || origin.manifestDigest !== null) {
    return origin && { origin, isUncertain: false };
  }
  const legacy = readPart(paths.imageRecord, RECORD_LIMIT_BYTES, parseLegacyImage, tell);
  if (legacy === null) return { origin, isUncertain: false };
  return { origin: { ...origin, manifestDigest: legacy.manifestDigest }, isUncertain: true };
}

/** StateError("missing") when there is none. */
function readOriginFile(path: string): Origin {
  const bytes = readSmallFile(path, ORIGIN_LIMIT_BYTES);
  if (bytes !== null) return parseOrigin(decodeText(bytes, path), path);
  throw new StateError("missing", `"${path}" is missing`, { path });
}

function readPart<T>(
  path: string,
  limitBytes: number,
  parse: (bytes: Uint8Array, path: string) => T,
  tell: (problem: string) => void,
): T | null {
  try {
    const bytes = readSmallFile(path, limitBytes);
    return bytes === null ? null : parse(bytes, path);
  } catch (error) {
    tell(`has a file that is ignored: ${describeError(error)}`);
    return null;
  }
}

export function stagedFilePath(system: System): string {
  return join(system.runDirectory, "composefs/staged-deployment");
}

/** Null when nothing is staged; throws when the file cannot be read or understood. */
export function readStagedFile(system: System): StagedFile | null {
  const path = stagedFilePath(system);
  const text = readSmallText(path, STAGED_LIMIT_BYTES);
  return text === null ? null : parseStagedFile(text, path);
}

function listDirectory(path: string): readonly string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
  } catch {
    return false; // a loop of links, a bad disk: the initramfs cannot use it either
  }
}
