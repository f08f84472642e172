// The arguments of boot assessment (shared/format/kargs/trial.ts) as a source of a boot entry. Pure.

import { type Cmdline, formatCmdline, hasParameter } from "../../shared/format/kargs/cmdline.ts";
import { missingTrialKargs } from "../../shared/format/kargs/trial.ts";
import { listSources, OWN_SOURCE } from "./kargs-source.ts";

/** What our source is to have beside `options`: whoever set one of these keys to something else, keeps that. */
export function chooseTrialKargs(
  options: Cmdline,
  extra: Parameters<typeof listSources>[0],
): string {
  const before = listSources(extra).get(OWN_SOURCE) ?? [];
  return formatCmdline(
    missingTrialKargs(options.filter((parameter) => !hasParameter(before, parameter))),
  );
}
