// policy.json: whose images are accepted, and how that is known (containers-policy.json(5)).
//
// The file is looked up as bootc does (bootc.md 3.6); the first that is there decides, and one that
// cannot be read or understood refuses everything.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { isErrno, PolicyError } from "../../../shared/error.ts";
import {
  type ConfigPlace,
  placePath,
  readVariable,
  userConfigDirectory,
} from "../../registry/config-place.ts";
import { type Requirement, requirementsSchema } from "./requirement.ts";
import { checkScope } from "./scopes.ts";
import { parseStrictJson } from "./strict-json.ts";

export interface Policy {
  /** Of the file, for messages and records. */
  readonly path: string;
  readonly default: readonly Requirement[];
  /** Transport ("docker", "oci" …) -> scope -> requirements; scope "" is the transport's default. */
  readonly transports: ReadonlyMap<string, ReadonlyMap<string, readonly Requirement[]>>;
}

const NAMED_BY = "CONTAINERS_POLICY_JSON";
const MAX_POLICY_BYTES = 4 << 20;
const SYSTEM_PATHS = ["/etc/containers/policy.json", "/usr/share/containers/policy.json"];

const policySchema = z.strictObject({
  default: requirementsSchema,
  transports: z.record(z.string(), z.record(z.string(), requirementsSchema)).optional(),
});

/** Null when there is none. PolicyError("rejected") when it cannot be understood. */
export function readPolicy(place: ConfigPlace): Policy | null {
  const named = readVariable(place, NAMED_BY);
  for (const path of policyPaths(place)) {
    const bytes = readIfThere(path, path === named);
    if (bytes !== null) return parsePolicy(bytes, path);
  }
  return null;
}

/** Where it is looked for, in order. */
export function policyPaths(place: ConfigPlace): readonly string[] {
  const named = readVariable(place, NAMED_BY);
  if (named !== null) return [named];
  const user = userConfigDirectory(place);
  return [
    ...(user === null ? [] : [join(user, "containers/policy.json")]),
    ...SYSTEM_PATHS.map((path) => placePath(place, path)),
  ];
}

export function parsePolicy(bytes: Uint8Array, path: string): Policy {
  try {
    if (bytes.length > MAX_POLICY_BYTES) throw new Error("it is larger than 4 MiB");
    const { default: general, transports } = parseStrictJson(policySchema, bytes, "the file");
    const scopes = Object.entries(transports ?? {}).map(
      ([transport, byScope]) => [transport, new Map(Object.entries(byScope))] as const,
    );
    for (const [transport, byScope] of scopes)
      for (const scope of byScope.keys()) checkScope(transport, scope);
    return { path, default: general, transports: new Map(scopes) };
  } catch (cause) {
    throw new PolicyError(
      "rejected",
      `Policy "${path}" cannot be used, so no image is accepted; correct it (containers-policy.json(5))`,
      { path },
      { cause },
    );
  }
}

/** Null when it is missing, unless it was asked for by name. */
function readIfThere(path: string, required: boolean): Uint8Array | null {
  try {
    return readFileSync(path);
  } catch (cause) {
    if (!required && isErrno(cause, "ENOENT", "ENOTDIR")) return null;
    throw new PolicyError("rejected", `Policy "${path}" cannot be read`, { path }, { cause });
  }
}
