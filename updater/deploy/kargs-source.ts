// Kernel arguments that a program set, and can change or take back without touching anybody else's:
// `bootc loader-entries set-options-for-source` (bootc.md 1.2), and our own for boot assessment.
//
//   options … isolcpus=2-3 nohz_full=2-3
//   x-options-source-tuned isolcpus=2-3 nohz_full=2-3
//
// The entry's own key remembers what the source named NAME has in `options`. The keys go with a deployment's
// arguments into every entry that is made from them. A source with no arguments keeps a key without value.

import { UsageError } from "../../shared/error.ts";
import type { BlsEntry } from "../../shared/format/bls/entry.ts";
import {
  addParameter,
  type Cmdline,
  formatCmdline,
  parseArguments,
  parseCmdline,
  removeParameter,
} from "../../shared/format/kargs/cmdline.ts";

type ExtraKeys = BlsEntry["extra"];

/** What an entry says to its kernel, and who of it set what. */
export interface SourcedOptions {
  readonly options: Cmdline;
  readonly extra: ExtraKeys;
}

const KEY_PREFIX = "x-options-source-";
/** What we set ourselves in every entry (trial-kargs.ts). */
export const OWN_SOURCE = "bootc";

/** UsageError for a name that cannot be part of a key. */
export function checkSourceName(name: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(name)) return name;
  throw new UsageError(
    "bad-value",
    `"${name}" cannot be the name of a source: use letters, digits, "-" and "_"`,
  );
}

/**
 * Makes `kargs` the arguments of a source: what it had before goes, by key and value, and the new ones come
 * last; others' stay where they are. "" leaves a source without arguments, null forgets it. The value it has
 * already changes nothing, not even what somebody took out of `options` since. FormatError for arguments
 * that cannot be written.
 */
export function applySourceOptions(
  options: Cmdline,
  extra: ExtraKeys,
  source: string,
  kargs: string | null,
): SourcedOptions {
  const key = `${KEY_PREFIX}${checkSourceName(source)}`;
  const wanted = kargs === null ? null : parseArguments(kargs);
  const had = extra.filter(([name]) => name === key).map(([, value]) => value);
  const before = had.length === 0 ? null : parseCmdline(had.join(" "));
  if (had.length < 2 && textOf(before) === textOf(wanted)) return { options, extra };
  const left = (before ?? []).reduce(removeParameter, options);
  const others = extra.filter(([name]) => name !== key);
  return {
    options: (wanted ?? []).reduce(addParameter, left),
    extra: wanted === null ? others : [...others, [key, formatCmdline(wanted)]],
  };
}

/** The same on a source's own request, which brings back what somebody took out of `options` since. */
export function setSourceOptions(
  { options, extra }: SourcedOptions,
  source: string,
  kargs: string | null,
): SourcedOptions {
  const after = applySourceOptions(options, extra, source, kargs);
  return {
    options: parseArguments(kargs ?? "").reduce(addParameter, after.options),
    extra: after.extra,
  };
}

/** The sources of an entry with their arguments, in the entry's order. */
export function listSources(extra: ExtraKeys): ReadonlyMap<string, Cmdline> {
  return new Map(
    keepSourceKeys(extra).map(([key, value]) => [
      key.slice(KEY_PREFIX.length),
      parseCmdline(value),
    ]),
  );
}

/** Of an entry's keys, those that go with its kernel arguments. */
export function keepSourceKeys(extra: ExtraKeys): ExtraKeys {
  return extra.filter(([key]) => key.startsWith(KEY_PREFIX));
}

function textOf(cmdline: Cmdline | null): string | null {
  return cmdline === null ? null : formatCmdline(cmdline);
}
