// The boot menu after a verb: which entry files a machine has, in which order (bootc.md 4.4, Appendix A;
// docs/decisions/0004, 0013). Every verb that changes the menu asks here. Pure.
//
// Position decides by sort key; the names are bootc's. Ids are unique also where upper and lower case are
// the same (vfat). A boot counter stays with its deployment. An entry on trial keeps its id in a menu that
// goes live at once, because whoever blesses this boot looks for it by name.

import { type BlsEntry, compareEntries, formatEntry } from "../../shared/format/bls/entry.ts";
import {
  type BootCounter,
  formatEntryName,
  makeEntryId,
  makeSortKey,
  parseEntryName,
} from "../../shared/format/bls/entry-name.ts";
import { isShownBefore, orderNames } from "../../shared/format/grub/name-order.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import { UKI_PARENT } from "../boot/kernel-directory.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { foreignFiles } from "./foreign-files.ts";
import type { NewImage } from "./stage-plan.ts";
import { findTrialEntry } from "./trial.ts";
import type { World } from "./world.ts";

/** How often the loader tries a deployment that has never proved itself. */
export const NEW_COUNTER: BootCounter = { left: 3, done: 0 };
const ROLLBACK_OS_ID = "bootc";

/** The names of what it starts; see `KernelPlan`. */
export type KernelPlace =
  | { readonly kind: "bls"; readonly directory: string }
  | { readonly kind: "uki"; readonly name: string };

export interface NewMenuItem {
  readonly kind: "new";
  readonly image: Pick<NewImage, "id" | "osRelease">;
  readonly kernel: KernelPlace;
  readonly options: string;
  readonly extra: BlsEntry["extra"];
}

interface KeptMenuItem {
  readonly kind: "kept";
  readonly entry: BootEntry;
  /** Instead of the entry's own. */
  readonly options?: string;
  readonly extra?: BlsEntry["extra"];
  /** Changed enough to be tried again, as with other kernel arguments. */
  readonly recount?: boolean;
}

export type MenuItem = NewMenuItem | KeptMenuItem;

export interface MenuRequest {
  /** Our deployments, in the order in which they are to boot. */
  readonly items: readonly MenuItem[];
  /**
   * "image": bootc's names after staging, `bootc_<os>-<version>-<1|0>`; without a new item, entries that are
   * in this order already keep their names. "rollback": bootc's names after a rollback, `bootc_bootc-…`.
   */
  readonly names: "image" | "rollback";
}

/** The whole menu, entries that are not ours at its end and unchanged. */
export function planMenu(world: World, request: MenuRequest): readonly EntryFile[] {
  const foreign = world.live.filter((entry) => entry.deploymentId === null);
  const taken = new Set(foreign.map((entry) => foldId(entry.name.id)));
  const files = keepsNames(request, world.layout)
    ? planUnmoved(request, world.layout, taken)
    : planOrdered(world, request, taken);
  const named = world.layout.loader === "systemd" ? files : nameForGrub(files);
  const menu = [...named, ...foreign.map(copyEntry)];
  return [...menu, ...foreignFiles(world, menu)];
}

/** The one entry of a new installation: there is nothing to fall back to, so it is not counted. */
export function makeFirstEntry(item: NewMenuItem, layout: BootLayout): EntryFile {
  const id = makeEntryId(osIdOf(item), versionOf(item), 1);
  const entry = makeNewEntry(item, layout, makeSortKey(osIdOf(item), 0));
  return { fileName: formatEntryName({ id, counter: null }), text: formatEntry(entry) };
}

/** Nothing changes its place. */
function planUnmoved(
  { items }: MenuRequest,
  layout: BootLayout,
  taken: Set<string>,
): readonly EntryFile[] {
  return items.map((item, position) => {
    if (item.kind === "new") throw new TypeError("a new deployment has no name yet");
    const { entry } = item;
    const wanted = taken.has(foldId(entry.name.id))
      ? uniqueId(osIdOf(item), versionOf(item), position, taken)
      : entry.name.id;
    return makeFile(item, wanted, entry.entry.sortKey, layout, taken);
  });
}

function planOrdered(
  world: World,
  { items, names }: MenuRequest,
  taken: Set<string>,
): readonly EntryFile[] {
  const osId = names === "rollback" ? ROLLBACK_OS_ID : findOsId(items);
  const fixed = findFixed(world, items);
  if (fixed !== null) taken.add(foldId(fixed.entry.name.id));
  return items.map((item, position) => {
    const id =
      item === fixed ? fixed.entry.name.id : uniqueId(osId, versionOf(item), position, taken);
    return makeFile(item, id, makeSortKey(osId, position), world.layout, taken);
  });
}

/** GRUB looks at nothing but names: those that would not come in this order get others. */
function nameForGrub(files: readonly EntryFile[]): readonly EntryFile[] {
  const ids = orderNames(files.map(({ fileName }) => parseEntryName(fileName)?.id ?? fileName));
  return files.map(({ text }, position) => ({
    fileName: formatEntryName({ id: ids[position]!, counter: null }),
    text,
  }));
}

function makeFile(
  item: MenuItem,
  id: string,
  sortKey: string | null,
  layout: BootLayout,
  taken: Set<string>,
): EntryFile {
  taken.add(foldId(id));
  const fileName = formatEntryName({ id, counter: counterOf(item, layout) });
  if (item.kind === "new") {
    return { fileName, text: formatEntry(makeNewEntry(item, layout, sortKey)) };
  }
  const { entry } = item.entry;
  const { options = entry.options, extra = entry.extra } = item;
  const isSame = options === entry.options && extra === entry.extra && sortKey === entry.sortKey;
  const text = isSame ? item.entry.text : formatEntry({ ...entry, options, extra, sortKey });
  return { fileName, text };
}

function makeNewEntry(
  { kernel, options, extra, image }: NewMenuItem,
  layout: BootLayout,
  sortKey: string | null,
): BlsEntry {
  return {
    title: makeTitle(image, kernel),
    version: imageVersion(image),
    target: makeTarget(kernel, layout),
    options,
    machineId: null,
    sortKey,
    extra,
  };
}

/** bootc's: for a unified kernel with the version behind the name (composefs-rs.md 5.4). */
function makeTitle({ id, osRelease }: NewMenuItem["image"], { kind }: KernelPlace): string {
  const name = osRelease.get("PRETTY_NAME") ?? osRelease.get("NAME") ?? osRelease.get("ID");
  const version = osRelease.get("VERSION_ID") ?? osRelease.get("VERSION");
  if (kind === "bls" || name === undefined || version === undefined) return name ?? id;
  return `${name} ${version}`;
}

/** Key `efi`: every systemd-boot knows it, `uki` only those from 258 on, and the loader may be older than systemd. */
function makeTarget(kernel: KernelPlace, { linuxPrefix }: BootLayout): BlsEntry["target"] {
  if (kernel.kind === "uki") {
    return { kind: "efi", key: "efi", path: `/${UKI_PARENT}/${kernel.name}.efi` };
  }
  const directory = `${linuxPrefix}/${kernel.directory}`;
  return { kind: "linux", linux: `${directory}/vmlinuz`, initrds: [`${directory}/initrd`] };
}

/** Entries that are in the wanted order already need no new names. */
function keepsNames({ items, names }: MenuRequest, layout: BootLayout): boolean {
  if (names === "rollback") return false;
  if (layout.loader !== "systemd") return isShownInOrder(items);
  const ordered = items.map((item) => ordering(item, layout));
  return ordered.every((current, position) => {
    const previous = ordered[position - 1];
    return current !== null && (previous == null || compareEntries(previous, current) < 0);
  });
}

function isShownInOrder(items: readonly MenuItem[]): boolean {
  const ids = items.map((item) => (item.kind === "new" ? null : item.entry.name.id));
  return ids.every((id, position) => {
    const previous = ids[position - 1];
    return id !== null && (previous == null || isShownBefore(previous, id));
  });
}

function ordering(item: MenuItem, layout: BootLayout) {
  if (item.kind === "new") return null;
  const { name, entry } = item.entry;
  return {
    id: name.id,
    sortKey: entry.sortKey,
    machineId: entry.machineId,
    version: entry.version,
    triesLeft: counterOf(item, layout)?.left ?? null,
  };
}

/** The entry on trial, when the menu goes live at once; what is staged gets its names at shutdown. */
function findFixed(world: World, items: readonly MenuItem[]): KeptMenuItem | null {
  // Only here the sort key alone decides; other loaders go by the name.
  if (world.layout.loader !== "systemd" || items.some((item) => item.kind === "new")) return null;
  const trial = findTrialEntry(world);
  const fixed = items.find((item) => item.kind === "kept" && item.entry === trial);
  return fixed?.kind === "kept" ? fixed : null;
}

function counterOf(item: MenuItem, layout: BootLayout): BootCounter | null {
  if (layout.counting !== "entry-name") return null;
  if (item.kind === "new" || item.recount === true) return NEW_COUNTER;
  return item.entry.name.counter;
}

/** bootc knows two deployments only; a third of the same version needs a name of its own. */
function uniqueId(osId: string, version: string, position: number, taken: Set<string>): string {
  const priority = position === 0 ? 1 : 0;
  let id = makeEntryId(osId, version, priority);
  for (let n = position; taken.has(foldId(id)); n += 1) {
    id = makeEntryId(osId, `${version}.${n}`, priority);
  }
  return id;
}

/** vfat takes names that differ in case only for the same. */
function foldId(id: string): string {
  return id.toLowerCase();
}

/** All entries carry the first one's distribution, so that the order holds when it changes. */
function findOsId(items: readonly MenuItem[]): string {
  const [first] = items;
  return first === undefined ? ROLLBACK_OS_ID : osIdOf(first);
}

function osIdOf(item: MenuItem): string {
  if (item.kind === "new") return item.image.osRelease.get("ID") ?? ROLLBACK_OS_ID;
  return /^bootc-(.+)-[0-9]+$/.exec(item.entry.entry.sortKey ?? "")?.[1] ?? ROLLBACK_OS_ID;
}

function versionOf(item: MenuItem): string {
  if (item.kind === "new") return imageVersion(item.image);
  return item.entry.entry.version ?? item.entry.deploymentId ?? "";
}

function imageVersion({ id, osRelease }: NewMenuItem["image"]): string {
  return osRelease.get("VERSION_ID") ?? osRelease.get("VERSION") ?? id;
}

function copyEntry(entry: BootEntry): EntryFile {
  return { fileName: entry.fileName, text: entry.text };
}
