// Kernel arguments of a new deployment: whose it takes over, and what becomes of them (bootc.md 4.10 f;
// docs/kargs.md). Pure.

import { StateError } from "../../shared/error.ts";
import {
  addParameter,
  type Cmdline,
  hasParameter,
  makeParameter,
  type Parameter,
  parseCmdline,
  removeParameter,
  replaceParameter,
} from "../../shared/format/kargs/cmdline.ts";
import { type BootEntry, isSealed } from "../boot/boot-entry.ts";
import { mergeImageKargs } from "./kargs-image.ts";
import {
  applySourceOptions,
  keepSourceKeys,
  listSources,
  OWN_SOURCE,
  type SourcedOptions,
} from "./kargs-source.ts";
import { chooseTrialKargs } from "./trial-kargs.ts";
import type { World } from "./world.ts";

/** What a new deployment brings. */
export interface NewArguments {
  readonly id: string;
  readonly verityOptional: boolean;
  /** Its kargs.d. */
  readonly kargs: Cmdline;
}

/** The entry of what is staged, as long as it can be used. */
export function findStagedEntry(world: World): BootEntry | null {
  const id = world.stagedFile?.id;
  return world.staged?.find(({ deploymentId }) => deploymentId === id) ?? null;
}

/**
 * Whose arguments a new deployment takes over: those of what is staged, which it replaces and where changes went
 * since, else `booted`'s. `imageKargs` has the kargs.d of their images; without it an entry is no base.
 */
export function findKargsBase(
  world: World,
  booted: BootEntry,
  imageKargs: ReadonlyMap<string, Cmdline>,
): BootEntry {
  const staged = findStagedEntry(world);
  return staged !== null && !isSealed(staged) && imageKargs.has(staged.deploymentId ?? "")
    ? staged
    : booted;
}

/** What a deployment is based on: arguments, whose they are, and which of them its image had. */
export interface BaseArguments extends SourcedOptions {
  /** Of its kargs.d. */
  readonly ofImage: Cmdline;
}

/**
 * `kargsD` is that of the image which `entry` starts. With `withAddons` those of addons count, too: a plain kernel
 * has none. What is in a sealed kernel is the image's as far as its kargs.d says so. StateError when it cannot be read.
 */
export function readBaseArguments(
  entry: BootEntry,
  kargsD: Cmdline,
  withAddons: boolean,
): BaseArguments {
  const sealed = isSealed(entry);
  if (sealed && entry.cmdline === "") {
    throw new StateError(
      "missing",
      `The kernel arguments of "${entry.fileName}" are unknown: its unified kernel cannot be read; "bootc internals fsck --repair" mends it`,
    );
  }
  const own = parseCmdline(sealed ? entry.cmdline : entry.entry.options);
  const added = withAddons ? parseCmdline(entry.addonArguments ?? "") : [];
  const options = added.reduce(addParameter, own);
  return {
    options,
    extra: sealed ? [] : keepSourceKeys(entry.entry.extra),
    ofImage: sealed ? kargsD.filter((each) => hasParameter(options, each)) : kargsD,
  };
}

/** Arguments of the machine itself that `sealed` does not have. */
export function findDropped(current: BaseArguments, sealed: Cmdline): Cmdline {
  const made = listSources(current.extra).get(OWN_SOURCE) ?? [];
  return current.options.filter(
    (each) =>
      !isImageParameter(each) &&
      ![current.ofImage, made, sealed].some((others) => hasParameter(others, each)),
  );
}

function isImageParameter({ key }: Parameter): boolean {
  return key === "composefs" || key === "composefs.digest";
}

export function inheritArguments(base: BaseArguments, made: NewArguments): SourcedOptions {
  const renamed = {
    // The other way to name an image goes before this one.
    options: replaceParameter(
      base.options.filter(({ key }) => key !== "composefs.digest"),
      makeImageParameter(made),
    ),
    extra: base.extra,
  };
  return setOwn(mergeImageKargs(renamed, base.ofImage, made.kargs));
}

/** Of a new installation: `given` by its caller first, then the image, then what the image wants (bootc.md 9.7). */
export function firstArguments(given: Cmdline, made: NewArguments): SourcedOptions {
  const options = addParameter(given, makeImageParameter(made));
  return setOwn(mergeImageKargs({ options, extra: [] }, [], made.kargs));
}

/** A key that an administrator took out of ours stays out, whatever else changes. */
function setOwn({ options, extra }: SourcedOptions): SourcedOptions {
  const had = listSources(extra).get(OWN_SOURCE) ?? [];
  const gone = had.filter((each) => !hasParameter(options, each)).map(({ key }) => key);
  const wanted = chooseTrialKargs(options, extra);
  const after = applySourceOptions(options, extra, OWN_SOURCE, wanted || null);
  const unwanted = parseCmdline(wanted).filter(({ key }) => gone.includes(key));
  return { ...after, options: unwanted.reduce(removeParameter, after.options) };
}

export function makeImageParameter({
  id,
  verityOptional,
}: Pick<NewArguments, "id" | "verityOptional">) {
  return makeParameter("composefs", verityOptional ? `?${id}` : id);
}
