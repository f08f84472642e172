// What goes where below the new root: plain data, computed from the settings and the command line.
//
// Invariants: /sysroot is always the read-only physical root; the state of a deployment lies in
// state/deploy/<id> of the physical root and nowhere else; the source strings are bootc's, which
// recognises a booted deployment by them (bootc.md 4.9, 5.2).

import type { VolatileMode } from "./boot-parameters.ts";
import type { MountKind, Settings } from "./settings.ts";

/** One mount below the new root; `at` is a directory of the image. */
export type Attachment =
  /** The physical root itself, read-only; left out when the image has no such directory. */
  | { readonly kind: "sysroot"; readonly at: "sysroot" }
  /** A directory of the physical root. */
  | { readonly kind: "bind"; readonly at: StateName; readonly from: string }
  | {
      readonly kind: "overlay";
      readonly at: StateName;
      /** Directory of the physical root; null: the new root's own `at`. */
      readonly lower: string | null;
      /** Directory of the physical root that holds upper/ and work/; null: memory. */
      readonly upper: string | null;
      readonly source: "overlay" | "transient";
    };
export type StateName = "etc" | "var";

export interface MountPlan {
  /** The deployment's id: the digest of its image. */
  readonly id: string;
  /** Overlayfs source of the image. */
  readonly source: string;
  /** Source of a second, writable overlay in memory on top of it; null: the root stays read-only. */
  readonly transientSource: string | null;
  /** state/deploy/<id>, which must exist. */
  readonly stateDir: string;
  readonly attachments: readonly Attachment[];
  /** Something of the physical root must be writable. */
  readonly needsWritableState: boolean;
}

export function planMounts(id: string, settings: Settings, volatileMode: VolatileMode): MountPlan {
  const stateDir = `state/deploy/${id}`;
  const transientRoot = settings.rootTransient || discardsRoot(volatileMode);
  const state = (["etc", "var"] as const)
    .map((name) => planState(name, settings, volatileMode, stateDir))
    .filter((attachment) => attachment !== null);
  return {
    id,
    source: `composefs:${id}`,
    transientSource: transientRoot ? `transient:composefs=${id}` : null,
    stateDir,
    attachments: [{ kind: "sysroot", at: "sysroot" }, ...state],
    needsWritableState: state.some(writesState),
  };
}

/** systemd-volatile-root would cover /etc and /var with its own overlay, so its work is done here. */
function discardsRoot(mode: VolatileMode): boolean {
  return mode === "yes" || mode === "overlay";
}

function planState(
  at: StateName,
  settings: Settings,
  volatileMode: VolatileMode,
  stateDir: string,
): Attachment | null {
  const from = `${stateDir}/${at}`;
  const kind = settings[at] ?? defaultKind(at, volatileMode);
  switch (kind) {
    case "none":
      return null;
    case "bind":
      return { kind, at, from };
    case "overlay":
      return { kind, at, lower: null, upper: from, source: "overlay" };
    case "transient":
      // systemd.volatile=overlay promises that everything stays visible and nothing is kept; with
      // "yes", and when the image asks for it, the machine's own /etc is left out.
      return {
        kind: "overlay",
        at,
        lower: settings[at] === null && volatileMode === "overlay" ? from : null,
        upper: null,
        source: "transient",
      };
  }
}

/** Without a setting: bind, unless systemd.volatile= says that nothing is to be kept. */
function defaultKind(at: StateName, mode: VolatileMode): MountKind {
  if (mode === "no") return "bind";
  // systemd mounts a tmpfs on /var itself for "state"; else it is part of the transient root.
  if (at === "var") return "none";
  return mode === "state" ? "bind" : "transient";
}

function writesState(attachment: Attachment): boolean {
  return attachment.kind === "bind" || (attachment.kind === "overlay" && attachment.upper !== null);
}

/** For the journal: "root=ro etc=bind var=none". */
export function describePlan(plan: MountPlan): string {
  const kindAt = (name: StateName) => {
    const attachment = plan.attachments.find(({ at }) => at === name);
    if (attachment?.kind !== "overlay") return attachment?.kind ?? "none";
    return attachment.upper === null ? "transient" : "overlay";
  };
  const root = plan.transientSource === null ? "ro" : "transient";
  return `root=${root} etc=${kindAt("etc")} var=${kindAt("var")}`;
}
