// Kernel arguments of a new deployment: whose it takes over, and what becomes of them (bootc.md 4.10 f;
// docs/kargs.md). Pure.

import {
  addParameter,
  type Cmdline,
  hasParameter,
  makeParameter,
  parseCmdline,
  removeParameter,
  replaceParameter,
} from "../../shared/format/kargs/cmdline.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
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
  return staged?.entry.target.kind === "linux" && imageKargs.has(staged.deploymentId ?? "")
    ? staged
    : booted;
}

/** `before` is the kargs.d of the image that `base` starts. */
export function inheritArguments(
  base: BootEntry,
  before: Cmdline,
  made: NewArguments,
): SourcedOptions {
  const renamed = {
    // The other way to name an image goes before this one.
    options: replaceParameter(
      parseCmdline(base.entry.options).filter(({ key }) => key !== "composefs.digest"),
      makeImageParameter(made),
    ),
    extra: keepSourceKeys(base.entry.extra),
  };
  return setOwn(mergeImageKargs(renamed, before, made.kargs));
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
