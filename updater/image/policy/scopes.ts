// Which requirements of a policy are an image's: those of the most specific scope that names it
// (containers-policy.json(5), "Supported transports and their scopes").
//
// From special to general, registries: name:tag or name@digest, repository, its namespaces, host with
// port, "*.domain"s of the host, the transport's default "". Paths: the path, its parents, "". Last
// the policy's default. Requirements of different scopes are never added up.

import { realpathSync } from "node:fs";
import { dirname, normalize } from "node:path";
import { FormatError } from "../../../shared/error.ts";
import { hostConfigPlace } from "../../registry/config-place.ts";
import { parseRegistryReference, type RegistryReference } from "../../registry/reference.ts";
import { splitPathReference } from "../path-reference.ts";
import type { ImageReference } from "../reference.ts";
import { readStoreRoots, storeRootsOf } from "../storage-conf.ts";
import { parseStorageReference } from "../storage-reference.ts";
import {
  type DockerReference,
  formatDockerReference,
  parseDockerReference,
} from "./docker-reference.ts";
import type { Policy } from "./policy-file.ts";
import type { Requirement } from "./requirement.ts";

/** An image as a policy sees it. */
export interface PolicySubject {
  /** "docker", "oci", "dir" … as policies call it. */
  readonly transport: string;
  /** Scopes that name it, from special to general, without "". */
  readonly scopes: readonly string[];
  /** Its name in registries, with a tag or digest; null where the transport has none. */
  readonly reference: DockerReference | null;
}

export interface ChosenRequirements {
  /** For people: `scope "quay.io/os" of transport "docker"`. */
  readonly scope: string;
  readonly requirements: readonly Requirement[];
}

const PATH_TRANSPORTS: ReadonlySet<string> = new Set(["dir", "oci", "oci-archive"]);
/** Their images have no name that a policy could rely on. */
const PLAIN_TRANSPORTS: ReadonlySet<string> = new Set(["docker-archive", "sif", "tarball"]);

/** `found`: where a registry's image was found; without it, where its name says. */
export function describeSubject(
  reference: ImageReference,
  found: RegistryReference | null = null,
): PolicySubject {
  const { transport, image } = reference;
  switch (transport) {
    case "registry": {
      const named = nameOfRegistryReference(found ?? parseRegistryReference(image));
      return { transport: "docker", scopes: dockerScopes(named), reference: named };
    }
    case "docker-daemon": {
      const named = isDaemonId(image) ? null : completeReference(image);
      return { transport, scopes: dockerScopes(named), reference: named };
    }
    case "containers-storage":
      return describeStored(image);
    case "docker-archive": {
      const { choice } = splitPathReference(image);
      const named = choice?.kind === "name" ? completeReference(choice.name) : null;
      return { transport, scopes: [], reference: named };
    }
    case "dir":
      return { transport, scopes: pathScopes(image), reference: null };
    case "oci":
    case "oci-archive": {
      // The path that is opened; as in every tool the tag is no part of the scope.
      const { path } = splitPathReference(image);
      return { transport, scopes: pathScopes(path), reference: null };
    }
  }
}

/** As policies see it: a digest stands above a tag (bootc.md 1.5). */
export function nameOfRegistryReference(reference: RegistryReference): DockerReference {
  const { host, repository, tag, digest } = reference;
  return { name: `${host}/${repository}`, tag: digest === null ? (tag ?? "latest") : null, digest };
}

export function chooseRequirements(policy: Policy, subject: PolicySubject): ChosenRequirements {
  const byScope = policy.transports.get(subject.transport);
  for (const scope of [...subject.scopes, ""]) {
    const requirements = byScope?.get(scope);
    if (requirements === undefined) continue;
    const what = scope === "" ? "the default" : `scope "${scope}"`;
    return { scope: `${what} of transport "${subject.transport}"`, requirements };
  }
  return { scope: "the default", requirements: policy.default };
}

/** FormatError for a scope that could never match. */
export function checkScope(transport: string, scope: string): void {
  if (scope === "") return;
  const refuse = (why: string): never => {
    throw new FormatError("bad-value", `scope "${scope}" of transport "${transport}" ${why}`);
  };
  if (PLAIN_TRANSPORTS.has(transport)) refuse('is not possible; the only one there is ""');
  if (!PATH_TRANSPORTS.has(transport)) return;
  const [path = ""] = scope.split(":");
  if (!path.startsWith("/")) refuse("is not an absolute path");
  if (path === "/") refuse('is not possible; use ""');
  if (normalize(path) !== path || path.endsWith("/")) refuse("is not in its shortest form");
}

/** From special to general; none without a name. */
export function dockerScopes(reference: DockerReference | null): readonly string[] {
  if (reference === null) return [];
  const { name } = reference;
  const parts = name.split("/");
  const prefixes = parts.map((_, index) => parts.slice(0, parts.length - index).join("/"));
  const [host = ""] = (parts[0] ?? "").split(":");
  const labels = host.split(".");
  const wildcards = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join(".")}`);
  return [formatDockerReference(reference), ...prefixes, ...wildcards];
}

function pathScopes(path: string): readonly string[] {
  const scopes: string[] = [];
  for (let at = resolvePath(path); at !== "/" && at !== "."; at = dirname(at)) scopes.push(at);
  return scopes;
}

/** Policies name paths without symlinks. What is not there yet is taken as it is written. */
function resolvePath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return normalize(path);
  }
}

/** "[driver@directory]name:tag", its parents, the store with its driver, the store alone. */
function describeStored(image: string): PolicySubject {
  const { store, name } = parseStorageReference(image);
  const roots = store === null ? readStoreRoots(hostConfigPlace()) : storeRootsOf(store);
  const [root = ""] = roots.paths;
  const reference = name === null ? null : nameOfRegistryReference(name);
  const prefix = `[${roots.driver ?? "overlay"}@${root}]`;
  const named = dockerScopes(reference).filter((scope) => !scope.startsWith("*"));
  return {
    transport: "containers-storage",
    scopes: [...named.map((scope) => `${prefix}${scope}`), prefix, `[${root}]`],
    reference,
  };
}

/** The tag is "latest" where none is given; a digest stands above a tag (bootc.md 1.5). */
function completeReference(image: string): DockerReference | null {
  const parsed = parseDockerReference(image);
  if (parsed === null) return null;
  if (parsed.digest !== null) return { ...parsed, tag: null };
  return { ...parsed, tag: parsed.tag ?? "latest" };
}

function isDaemonId(image: string): boolean {
  return /^(?:sha256:)?[0-9a-f]{64}$/.test(image);
}
