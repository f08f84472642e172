// A change of kernel arguments by hand, the thinking part: which entry, and what is written (docs/kargs.md). Pure.
//
// What boots next is changed: the staged deployment's entry when there is one, else the first live one. The
// others keep their arguments, so that a bad one always leaves a way out; what is changed while something can
// be fallen back to is tried anew. A deployment that is only downloaded does not boot next, but is going to
// take over: it gets the same change as the live entry.

import { StateError, UnsupportedError } from "../../shared/error.ts";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import {
  addParameter,
  type Cmdline,
  formatCmdline,
  parseCmdline,
  subtractParameters,
} from "../../shared/format/kargs/cmdline.ts";
import { type BootEntry, isSealed } from "../boot/boot-entry.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { findStagedEntry } from "./kargs-base.ts";
import { MACHINE_SOURCE, settleMachine } from "./kargs-image.ts";
import { applySourceOptions, listSources, type SourcedOptions } from "./kargs-source.ts";
import { planMenu } from "./menu-plan.ts";
import { findNextStart, isGivenUp, isGrubTrial } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

/** x86 and arm64 cut a longer command line, without a word. */
const LINE_LIMIT_BYTES = 2047;
/** How an addon is made; `--secureboot-private-key` and `--secureboot-certificate` sign it. */
const SEALED_ADVICE =
  "ukify build --stub /usr/lib/systemd/boot/efi/addonx64.efi.stub --cmdline 'ARGUMENTS' --output NAME.addon.efi";

/** A staged file that cannot be read is as good as none; what it meant is dropped with the next change. */
const MENU_PARTS = ["live", "staged"] as const;

export type KargsChange =
  | { readonly kind: "nothing" }
  /** One file of the staged entries. */
  | { readonly kind: "staged"; readonly entry: EntryFile }
  | {
      readonly kind: "live";
      /** The whole menu. */
      readonly entries: readonly EntryFile[];
      /** The changed entry starts on trial, because another one can be fallen back to. */
      readonly isCounted: boolean;
      /** To be staged again afterwards, since one exchange replaces the directory; null without. */
      readonly restage: readonly EntryFile[] | null;
    };

export interface KargsPlan {
  /** The deployment whose arguments change. */
  readonly id: string;
  readonly slot: "staged" | "booted" | "rollback";
  readonly before: string;
  readonly after: string;
  readonly change: KargsChange;
}

interface Target {
  readonly entry: BootEntry;
  readonly slot: KargsPlan["slot"];
  /** Downloaded only, and changed as well. */
  readonly follower: BootEntry | null;
}

/** The entry that boots next. StateError when there is none, or nobody knows. */
export function findNextEntry(world: World): Target {
  const booted = requireBooted(world);
  if (MENU_PARTS.some((part) => world.unread.includes(part))) {
    const problem = world.problems[0] ?? "";
    throw new StateError("conflict", `What boots next cannot be found out: ${problem}`);
  }
  const staged = findStagedEntry(world);
  if (staged !== null && world.stagedFile?.locked === false) {
    return { entry: staged, slot: "staged", follower: null };
  }
  const first = findNextStart(world);
  if (first === undefined) {
    throw new StateError("missing", "No boot entry leads to a deployment of this system");
  }
  const slot = first.deploymentId === booted.id ? "booted" : "rollback";
  return { entry: first, slot, follower: staged };
}

/** What an entry gives its kernel. UnsupportedError when that is not in the entry. */
function readArguments(entry: BootEntry): SourcedOptions {
  const { fileName } = entry;
  if (!isSealed(entry)) {
    return { options: parseCmdline(entry.entry.options), extra: entry.entry.extra };
  }
  throw new UnsupportedError(
    "feature",
    `Boot entry "${fileName}" starts a unified kernel, whose arguments are sealed in it: put them into ` +
      `/usr/lib/bootc/kargs.d of the image and seal it again, or beside the kernel into an addon, "${SEALED_ADVICE}"`,
  );
}

/** `edit` makes the new arguments of the old ones; its errors are passed on. */
export function planKargs(
  world: World,
  edit: (current: SourcedOptions) => SourcedOptions,
): KargsPlan {
  const target = findNextEntry(world);
  const { entry, slot } = target;
  const before = readArguments(entry);
  const after = settleMachine(edit(before));
  const plan = {
    id: entry.deploymentId!,
    slot,
    before: formatCmdline(before.options),
    after: formatCmdline(after.options),
  };
  if (isSame(before, after)) return { ...plan, change: { kind: "nothing" } };
  requireLength(world, entry, before.options, after.options);
  if (slot === "staged") {
    return { ...plan, change: { kind: "staged", entry: rewrite(entry, after) } };
  }
  return { ...plan, change: planLive(world, target, before, after) };
}

function planLive(
  world: World,
  { entry, follower }: Target,
  before: SourcedOptions,
  after: SourcedOptions,
): KargsChange {
  const own = world.live.filter(({ deploymentId }) => deploymentId !== null);
  const isCounted = canTry(world, own, entry);
  return {
    kind: "live",
    isCounted,
    entries: planMenu(world, {
      names: "image",
      items: own.map((each) =>
        each === entry
          ? {
              kind: "kept",
              entry,
              options: formatCmdline(after.options),
              extra: after.extra,
              recount: isCounted,
            }
          : { kind: "kept", entry: each },
      ),
    }),
    restage:
      follower === null
        ? null
        : (world.staged ?? []).map((each) => {
            if (each === follower) return follow(each, before, after);
            return each.deploymentId === entry.deploymentId
              ? rewrite(each, after)
              : { fileName: each.fileName, text: each.text };
          }),
  };
}

/**
 * Whether the loader can count the starts with the new arguments and go on to another deployment. GRUB has one
 * counter: as long as this start is on trial, its blessing would be taken for theirs.
 */
function canTry(world: World, own: readonly BootEntry[], entry: BootEntry): boolean {
  const hasOther = own.some((other) => other !== entry && !isGivenUp(other));
  return hasOther && world.layout.counting !== "none" && !isGrubTrial(world);
}

/** The same change in an entry that has other arguments besides; one that is sealed stays. */
function follow(entry: BootEntry, before: SourcedOptions, after: SourcedOptions): EntryFile {
  if (isSealed(entry)) return { fileName: entry.fileName, text: entry.text };
  const removed = subtractParameters(before.options, after.options);
  const added = subtractParameters(after.options, before.options);
  const left = subtractParameters(parseCmdline(entry.entry.options), removed);
  const start = { options: added.reduce(addParameter, left), extra: entry.entry.extra };
  const followed = changedSources(before, after).reduce(
    (current, [name, kargs]) => applySourceOptions(current.options, current.extra, name, kargs),
    start,
  );
  return rewrite(entry, settleMachine(followed));
}

/** With their new arguments; null for one that is gone. */
function changedSources(
  before: SourcedOptions,
  after: SourcedOptions,
): readonly (readonly [name: string, kargs: string | null])[] {
  const [old, now] = [listSources(before.extra), listSources(after.extra)];
  const textOf = (sources: typeof old, name: string) => {
    const own = sources.get(name);
    return own === undefined ? null : formatCmdline(own);
  };
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((name) => name !== MACHINE_SOURCE && textOf(old, name) !== textOf(now, name))
    .map((name) => [name, textOf(now, name)]);
}

function rewrite({ fileName, entry }: BootEntry, { options, extra }: SourcedOptions): EntryFile {
  return { fileName, text: formatEntry({ ...entry, options: formatCmdline(options), extra }) };
}

function isSame(a: SourcedOptions, b: SourcedOptions): boolean {
  return (
    formatCmdline(a.options) === formatCmdline(b.options) &&
    JSON.stringify(a.extra) === JSON.stringify(b.extra)
  );
}

/** systemd-boot adds an `initrd=` for every initramfs. */
function requireLength(world: World, { entry }: BootEntry, before: Cmdline, after: Cmdline): void {
  const initrds = entry.target.kind === "linux" ? entry.target.initrds : [];
  const added =
    world.layout.loader === "grub"
      ? 0
      : initrds.reduce((sum, path) => sum + Buffer.byteLength(`initrd=${path} `), 0);
  const lengthOf = (line: Cmdline) => Buffer.byteLength(formatCmdline(line)) + added;
  const length = lengthOf(after);
  if (length <= LINE_LIMIT_BYTES || length <= lengthOf(before)) return;
  throw new StateError(
    "conflict",
    `The kernel command line would have ${length} bytes, of which the kernel reads ${LINE_LIMIT_BYTES}; delete what is not needed`,
  );
}
