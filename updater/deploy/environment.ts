// Where this program runs: in a container, on a machine booted through composefs or ostree, or anywhere
// else (bootc.md 1.1 and 4.9). Verbs that change the machine ask for a booted one.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { type ComposefsKarg, parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";

export interface BootedImage {
  /** Of the root that is mounted; a soft reboot changes this one, not the kernel's command line. */
  readonly id: string;
  /** It was mounted so that files without fs-verity are tolerated (`composefs=?…`). */
  readonly verityOptional: boolean;
}

export type Environment =
  | { readonly kind: "container" }
  | { readonly kind: "composefs"; readonly booted: BootedImage }
  | { readonly kind: "ostree" }
  | { readonly kind: "other" };

/** StateError when the command line names an image, but something else is mounted as root. */
export function detectEnvironment(
  system: System,
  variables: Readonly<Record<string, string | undefined>>,
): Environment {
  const isContainer =
    variables["container"] !== undefined ||
    existsSync(join(system.runDirectory, ".containerenv")) ||
    existsSync(join(system.root, ".dockerenv"));
  if (isContainer) return { kind: "container" };
  const kargs = parseComposefsKargs(system.cmdline);
  if (kargs.length > 0) return { kind: "composefs", booted: readBooted(system, kargs) };
  if (existsSync(join(system.runDirectory, "ostree-booted"))) return { kind: "ostree" };
  return { kind: "other" };
}

/** StateError when the root is no image. */
function readBooted(system: System, kargs: readonly ComposefsKarg[]): BootedImage {
  const root = findMount(system.mounts, "/");
  const source = root?.source ?? "nothing";
  const id = parseRootSource(source);
  if (root === null || id === null) {
    throw new StateError(
      "not-booted",
      `The root is not mounted using composefs (source: ${source})`,
    );
  }
  const own = kargs.find((karg) => karg.digest === id);
  if (own !== undefined) return { id, verityOptional: own.optional };
  // After a soft reboot the command line is another deployment's, and the mount itself tells; below an
  // overlay in memory it cannot be seen.
  const isHidden = source.startsWith(TRANSIENT_PREFIX);
  const isRequired = root.superOptions.split(",").includes("verity=require");
  return { id, verityOptional: isHidden ? kargs[0]!.optional : !isRequired };
}

const TRANSIENT_PREFIX = "transient:composefs=";

/** The deployment of a root's mount source: `composefs:<id>`, or that prefix under a tmpfs overlay. */
export function parseRootSource(source: string): string | null {
  return /^(?:composefs:|transient:composefs=)([0-9a-f]{64,128})$/.exec(source)?.[1] ?? null;
}
