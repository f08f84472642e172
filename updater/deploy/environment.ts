// Where this program runs: in a container, on a machine booted through composefs or ostree, or anywhere
// else (bootc.md 1.1 and 4.9). Verbs that change the machine ask for a booted one.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";

export interface BootedImage {
  /** Of the root that is mounted; a soft reboot changes this one, not the kernel's command line. */
  readonly id: string;
  /** The kernel was told to go without fs-verity (`composefs=?…`). */
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
  const [karg] = parseComposefsKargs(system.cmdline);
  if (karg !== undefined) {
    return {
      kind: "composefs",
      booted: { id: readRootImage(system), verityOptional: karg.optional },
    };
  }
  if (existsSync(join(system.runDirectory, "ostree-booted"))) return { kind: "ostree" };
  return { kind: "other" };
}

/** The root's mount source: `composefs:<id>`, or `transient:composefs=<id>` under a tmpfs overlay. */
function readRootImage(system: System): string {
  const source = findMount(system.mounts, "/")?.source ?? "nothing";
  const match = /^(?:composefs:|transient:composefs=)([0-9a-f]{64,128})$/.exec(source);
  if (match !== null) return match[1]!;
  throw new StateError("not-booted", `The root is not mounted using composefs (source: ${source})`);
}
