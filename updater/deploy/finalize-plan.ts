// Finalizing a staged deployment at shutdown, the thinking part (bootc.md 4.12). Pure.
//
// The order is: merge /etc into a fresh directory and swap it in, then exchange the entry directories:
// that exchange is the commit. Interrupted anywhere, the next run finds out from the world where it is:
// before the exchange everything is done again, after it only the cleaning is left.
//
// Since staging the live entries may have changed: a boot was blessed, an administrator's other system got
// a new kernel. The staged menu follows them before it takes their place.

import { StateError } from "../../shared/error.ts";
import { formatEntryName } from "../../shared/format/bls/entry-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { foreignFiles } from "./foreign-files.ts";
import { isGivenUp } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

export type FinalizePlan =
  | { readonly kind: "nothing"; readonly reason: string }
  /** The exchange happened already. */
  | { readonly kind: "cleanup"; readonly id: string }
  | {
      readonly kind: "merge-and-exchange";
      readonly id: string;
      /** The menu that goes live: what is staged, with the counters and foreign entries of now. */
      readonly entries: readonly EntryFile[];
    };

/** StateError("missing") when the staged deployment could not start: nothing may be exchanged then. */
export function planFinalize(world: World): FinalizePlan {
  const { stagedFile } = world;
  if (stagedFile === null) return { kind: "nothing", reason: "No deployment is staged" };
  if (stagedFile.locked) {
    return { kind: "nothing", reason: "The staged deployment is download-only" };
  }
  const booted = requireBooted(world);
  const { id } = stagedFile;
  const staged = (world.staged ?? []).filter((entry) => entry.deploymentId !== null);
  const [first] = staged;
  if (first?.deploymentId !== id) {
    const isDone = world.live.some((entry) => entry.deploymentId === id);
    if (isDone && !isFailed(world, id)) return { kind: "cleanup", id };
    throw staged.some((entry) => entry.deploymentId === id)
      ? unusable("conflict", id, "is not the first of the staged boot entries")
      : unusable("missing", id, "has no boot entry");
  }
  if (!staged.some((entry) => entry.deploymentId === booted.id)) {
    throw unusable("conflict", id, "is staged without the running one to fall back to");
  }
  requireStartable(world, id, first);
  return { kind: "merge-and-exchange", id, entries: renewMenu(world, id) };
}

/** Then it may be live because it failed before, not because this run got that far. */
function isFailed(world: World, id: string): boolean {
  return world.live.some((entry) => entry.deploymentId === id && isGivenUp(entry));
}

function requireStartable(world: World, id: string, entry: BootEntry): void {
  const state = world.states.find((candidate) => candidate.id === id);
  if (state === undefined || !state.complete) {
    throw unusable("missing", id, "has no complete state directory");
  }
  const { artefact } = entry;
  const isThere = (name: string) =>
    world.kernels.includes(name) || world.ukis.includes(`${name}.efi`);
  if (artefact !== null && !isThere(artefact)) {
    throw unusable("missing", id, `has no kernel in "${artefact}"`);
  }
  const addon = state.addons?.find((name) => !world.globalAddons.includes(name));
  if (addon !== undefined) throw unusable("missing", id, `needs the addon "${addon}"`);
}

function unusable(code: "missing" | "conflict", id: string, what: string): StateError {
  return new StateError(code, `The staged deployment ${id} ${what}; stage it again`, { id });
}

/** The new deployment's counter is its own; the others' are what they are by now. */
function renewMenu(world: World, id: string): readonly EntryFile[] {
  const ours = (world.staged ?? []).filter((entry) => entry.deploymentId !== null);
  const ids = new Set(ours.map((entry) => entry.name.id));
  const renewed = ours.map((entry) => ({
    fileName: entry.deploymentId === id ? entry.fileName : recountName(world, entry),
    text: entry.text,
  }));
  const foreign = world.live.filter(
    (entry) => entry.deploymentId === null && !ids.has(entry.name.id),
  );
  // An interrupted renewal leaves an entry under both its names.
  const unique = new Map([...renewed, ...foreign].map((file) => [file.fileName, file]));
  const menu = [...unique.values()].map(({ fileName, text }) => ({ fileName, text }));
  return [...menu, ...foreignFiles(world, menu)];
}

function recountName(world: World, { deploymentId, fileName, name }: BootEntry): string {
  const live = world.live.find((entry) => entry.deploymentId === deploymentId);
  return live === undefined || world.layout.counting !== "entry-name"
    ? fileName
    : formatEntryName({ id: name.id, counter: live.name.counter });
}
