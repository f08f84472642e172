// Records that ostree keeps in /run/ostree while a system runs, a{sv} in this machine's byte order: what is staged
// for the next start (ostree.md 3.8).

import { FormatError } from "../../error.ts";
import {
  type Dictionary,
  decodeDictionary,
  lookup,
  lookupBoolean,
  lookupString,
} from "../gvariant/dictionary.ts";
import { type DeploymentName, parseDeploymentName } from "./deployment.ts";

export interface StagedTarget extends DeploymentName {
  readonly stateroot: string;
  readonly bootChecksum: string | null;
}
export interface StagedDeployment {
  readonly target: StagedTarget;
  /** Whose /etc is merged. */
  readonly mergeFrom: StagedTarget | null;
  /** Not to be finalized at shutdown. */
  readonly isLocked: boolean;
  /** Null when the record has none; their `ostree=` is still that of the running system. */
  readonly kernelArguments: readonly string[] | null;
}

/** `/run/ostree/staged-deployment` */
export function parseStagedDeployment(bytes: Uint8Array): StagedDeployment {
  const record = decodeDictionary(bytes);
  const target = parseTarget(record, "target");
  if (target === null) throw malformed('has no "target"');
  return {
    target,
    mergeFrom: parseTarget(record, "merge-deployment"),
    isLocked: lookupBoolean(record, "locked") ?? false,
    kernelArguments: lookup(record, "kargs", "as") as readonly string[] | null,
  };
}

function parseTarget(record: Dictionary, key: string): StagedTarget | null {
  const fields = lookup(record, key, "a{sv}") as Dictionary | null;
  if (fields === null) return null;
  const name = parseDeploymentName(lookupString(fields, "name") ?? "");
  const stateroot = lookupString(fields, "osname");
  if (name === null || stateroot === null) throw malformed(`has a "${key}" without name`);
  return { ...name, stateroot, bootChecksum: lookupString(fields, "bootcsum") };
}

function malformed(problem: string): FormatError {
  return new FormatError("bad-value", `The record of the staged deployment ${problem}`, {
    format: "ostree-staged",
  });
}
