// Kernel arguments that make a start which went wrong end, so that the boot loader can try again or fall back
// (docs/boot-assessment.md says what each does and how to be without it). Every entry we make carries them.
// Pure.

import {
  type Cmdline,
  formatCmdline,
  hasParameter,
  parseCmdline,
} from "../../shared/format/kargs/cmdline.ts";
import { listSources, OWN_SOURCE } from "./kargs-source.ts";

const TRIAL_KARGS = parseCmdline(
  "panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot",
);

/** What our source is to have beside `options`: whoever set one of these keys to something else, keeps that. */
export function chooseTrialKargs(
  options: Cmdline,
  extra: Parameters<typeof listSources>[0],
): string {
  const before = listSources(extra).get(OWN_SOURCE) ?? [];
  const others = options.filter((parameter) => !hasParameter(before, parameter));
  return formatCmdline(
    TRIAL_KARGS.filter(({ key }) => !others.some((parameter) => parameter.key === key)),
  );
}
