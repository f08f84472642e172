// The image's own kernel arguments (kargs.d) and the machine's, kept apart from one image to the next
// (bootc.md 3.1; docs/kargs.md). Pure.
//
// A three-way comparison: the old image's arguments, the new one's, and what the machine has. What the image
// dropped goes, what it added comes last, all else is the machine's and stays. An argument that both have is on
// the command line once, as with bootc; that it is the machine's, too, is remembered for as long as that matters:
//
//   x-options-source-bootc-machine quiet

import {
  addParameter,
  type Cmdline,
  formatCmdline,
  hasParameter,
  subtractParameters,
} from "../../shared/format/kargs/cmdline.ts";
import { applySourceOptions, listSources, type SourcedOptions } from "./kargs-source.ts";

/** Not for `loader-entries`. */
export const MACHINE_SOURCE = "bootc-machine";

/** `before` and `after`: kargs.d of the image that `current` was made for, and of the new one. */
export function mergeImageKargs(
  current: SourcedOptions,
  before: Cmdline,
  after: Cmdline,
): SourcedOptions {
  const dropped = distinct(before).filter((each) => !hasParameter(after, each));
  const added = distinct(after).filter((each) => !hasParameter(before, each));
  const owned = [...listSources(current.extra).values()].flat();
  const machine = listSources(current.extra).get(MACHINE_SOURCE) ?? [];
  const left = subtractParameters(
    current.options,
    dropped.filter((each) => !hasParameter(owned, each)),
  );
  const shared = added.filter((each) => hasParameter(left, each) && !hasParameter(owned, each));
  return recordMachine({ options: added.reduce(addParameter, left), extra: current.extra }, [
    ...machine.filter((each) => !hasParameter(dropped, each)),
    ...shared,
  ]);
}

/** After a change by hand: what was taken out is no longer the machine's. */
export function settleMachine(current: SourcedOptions): SourcedOptions {
  const machine = listSources(current.extra).get(MACHINE_SOURCE) ?? [];
  return recordMachine(
    current,
    machine.filter((each) => hasParameter(current.options, each)),
  );
}

function recordMachine({ options, extra }: SourcedOptions, machine: Cmdline): SourcedOptions {
  const text = machine.length === 0 ? null : formatCmdline(machine);
  return { options, extra: applySourceOptions([], extra, MACHINE_SOURCE, text).extra };
}

function distinct(cmdline: Cmdline): Cmdline {
  return cmdline.reduce<Cmdline>(addParameter, []);
}
