// Is the running start still on trial? What the boot loader counted it under, and how it is told that the
// start was good (UAPI.1 "Boot counting"; boot-counting-and-esp.md 1; docs/boot-assessment.md).
//
// systemd-boot renames a counted entry before it starts the kernel (`+3` -> `+2-1`) and leaves the new name
// in LoaderBootCountPath. The name less its counter is gone at the next exchange of entries, the counter is
// not: the two together with the deployment say which entry is meant.

import { type BootCounter, parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import type { BootDirectory } from "./boot-layout.ts";
import { readLoaderVariable } from "./efi-variable.ts";
import { type GrubTrial, readGrubTrial } from "./grub-counter.ts";
import type { System } from "./system.ts";

/** How the loader counts this start. */
export type LoaderCount =
  | { readonly kind: "uncounted" }
  /** By the name of the entry; `counter` as it was while this kernel was started. */
  | { readonly kind: "entry-name"; readonly entryId: string; readonly counter: BootCounter }
  /** By one counter for the whole machine; `fallback`: used up, so the menu's second entry was started. */
  | {
      readonly kind: "grubenv";
      readonly blessed: boolean;
      readonly fallback: boolean;
      /** No try is left: the next start is that of the entry with this id, of the second one without. */
      readonly lastTry?: { readonly fallbackId: string | null };
    };

export interface BootAssessment {
  /** The deployment the kernel was started for; after a soft reboot another one runs. */
  readonly startedId: string | null;
  readonly count: LoaderCount;
}

export function readAssessment(system: System, boot: BootDirectory): BootAssessment {
  const [karg] = parseComposefsKargs(system.cmdline);
  return { startedId: karg?.digest ?? null, count: readCount(system, boot) };
}

function readCount(system: System, boot: BootDirectory): LoaderCount {
  switch (boot.layout.counting) {
    case "entry-name":
      return parseCountPath(readLoaderVariable(system, "LoaderBootCountPath") ?? "");
    case "grubenv":
      return readGrubCount(boot);
    case "none":
      return { kind: "uncounted" };
  }
}

/** Without a block that can be read nothing is on trial: GRUB does not count then, either. */
function readGrubCount(boot: BootDirectory): LoaderCount {
  try {
    return interpretGrubTrial(readGrubTrial(boot));
  } catch {
    return { kind: "uncounted" };
  }
}

function interpretGrubTrial({ left, success, fallback, fallbackId }: GrubTrial): LoaderCount {
  if (left === null && !success) return { kind: "uncounted" };
  const isLast = left === 0 && !success && !fallback;
  const count = { kind: "grubenv", blessed: success || fallback, fallback } as const;
  return isLast ? { ...count, lastTry: { fallbackId } } : count;
}

/** `\loader\entries\NAME+LEFT-DONE.conf`; anything else is somebody else's way of starting. */
function parseCountPath(path: string): LoaderCount {
  const match = /^[\\/]loader[\\/]entries[\\/]([^\\/]+)$/i.exec(path);
  const name = match === null ? null : parseEntryName(match[1]!);
  return name === null || name.counter === null
    ? { kind: "uncounted" }
    : { kind: "entry-name", entryId: name.id, counter: name.counter };
}
