// Kernel arguments that make a start which went wrong end, so that the boot loader can try again or fall back
// (docs/boot-assessment.md says what each does and how to be without it). Every entry we make carries them, and
// every kernel we seal.

import { type Cmdline, parseCmdline } from "./cmdline.ts";

const TRIAL_KARGS = parseCmdline(
  "panic=10 systemd.crash_action=reboot rd.shell=0 rd.emergency=reboot",
);

/** What has to be added to `others`: whoever set one of these keys to something else, keeps that. */
export function missingTrialKargs(others: Cmdline): Cmdline {
  return TRIAL_KARGS.filter(({ key }) => !others.some((parameter) => parameter.key === key));
}
