// How ostree names deployments and what leads to them (ostree.md 3.1, 3.4): directories `<commit>.<serial>`, the links
// `/ostree/boot.N` -> `boot.N.S` and `/boot/loader` -> `loader.N`, and the argument
// `ostree=/ostree/boot.N/<stateroot>/<boot checksum>/<serial>`. These are strict: libostree fails on others.

import { parseEntryName } from "../bls/entry-name.ts";
import { isChecksum } from "./object.ts";

/** "<commit>.<serial>" */
export interface DeploymentName {
  readonly commit: string;
  readonly serial: number;
}

export function parseDeploymentName(name: string): DeploymentName | null {
  const match = /^([0-9a-f]+)\.([0-9]{1,9})$/.exec(name);
  if (match === null || !isChecksum(match[1]!)) return null;
  return { commit: match[1]!, serial: Number(match[2]) };
}

/** The path of an `ostree=` argument, e.g. "/ostree/boot.0/os/<checksum>/0". */
export interface BootPath {
  readonly bootVersion: 0 | 1;
  readonly stateroot: string;
  readonly bootChecksum: string;
  readonly serial: number;
}

export function parseBootPath(path: string): BootPath | null {
  const match = /^\/ostree\/boot\.([01])\/([^/]+)\/([^/]+)\/([0-9]{1,9})$/.exec(path);
  if (match === null) return null;
  const [, version, stateroot, bootChecksum, serial] = match as unknown as string[];
  return {
    bootVersion: version === "0" ? 0 : 1,
    stateroot: stateroot!,
    bootChecksum: bootChecksum!,
    serial: Number(serial),
  };
}

/** What a boot link, below `/ostree/boot.N.S/<stateroot>/<boot checksum>/`, points at. */
export function parseBootLink(
  target: string,
): (DeploymentName & { readonly stateroot: string }) | null {
  const match = /^\.\.\/\.\.\/\.\.\/deploy\/([^/]+)\/deploy\/([^/]+)$/.exec(target);
  const name = match === null ? null : parseDeploymentName(match[2]!);
  return name === null ? null : { ...name, stateroot: match![1]! };
}

/** Which of the two sets of entries boots: the target of `/boot/loader`. Null for anything else. */
export function parseLoaderLink(target: string): 0 | 1 | null {
  if (target === "loader.0") return 0;
  return target === "loader.1" ? 1 : null;
}

export interface OstreeEntryName {
  /** Number of entries minus position; null for names that libostree takes but never writes. */
  readonly index: number | null;
  /** In names of releases before 2024.5. */
  readonly stateroot: string | null;
  readonly counter: { readonly left: number; readonly done: number } | null;
}

/** `ostree-<n>[-<stateroot>][+<left>[-<done>]].conf`; null for files that are not ostree's. */
export function parseOstreeEntryName(fileName: string): OstreeEntryName | null {
  const name = parseEntryName(fileName);
  if (name === null || !name.id.startsWith("ostree-")) return null;
  const match = /^ostree-([0-9]{1,9})(?:-(.+))?$/.exec(name.id);
  const index = match === null ? null : Number(match[1]);
  return { index, stateroot: match?.[2] ?? null, counter: name.counter };
}
