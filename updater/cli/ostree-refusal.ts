// On a machine that ostree deployed, verbs that change a deployment say which command does it there, and change
// nothing: updating ostree systems is not handled by this program yet.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { UnsupportedError } from "../../shared/error.ts";
import type { System } from "../boot/system.ts";

/** Verb -> the command of ostree, and of rpm-ostree where that is the one to use. */
const COMMANDS = {
  upgrade: ["ostree admin upgrade", "rpm-ostree upgrade"],
  switch: ["ostree admin switch", "rpm-ostree rebase"],
  rollback: ["ostree admin set-default 1", "rpm-ostree rollback"],
  kargs: ["ostree admin kargs edit-in-place", "rpm-ostree kargs"],
  "loader-entries": ["ostree admin kargs edit-in-place", "rpm-ostree kargs"],
  "assess-boot": ["systemctl start systemd-bless-boot", "systemctl start systemd-bless-boot"],
  finalize: ["ostree admin finalize-staged", "rpm-ostree finalize-deployment"],
  "soft-reboot": ["ostree admin prepare-soft-reboot", "rpm-ostree upgrade"],
  "usr-overlay": ["ostree admin unlock", "rpm-ostree usroverlay"],
  gc: ["ostree admin cleanup", "rpm-ostree cleanup -m"],
  fsck: ["bootc internals ostree verify", "bootc internals ostree verify"],
  etc: ["ostree admin config-diff", "ostree admin config-diff"],
  delete: ["ostree admin undeploy INDEX", "rpm-ostree cleanup --rollback"],
  edit: ["ostree admin switch", "rpm-ostree rebase"],
  pin: ["ostree admin pin INDEX", "ostree admin pin INDEX"],
  status: ["ostree admin status", "rpm-ostree status"],
} as const;
export type OstreeVerb = keyof typeof COMMANDS;

export function refuseOnOstree(system: System, verb: OstreeVerb): UnsupportedError {
  const isRpmOstree = existsSync(join(system.root, "usr/bin/rpm-ostree"));
  const command = COMMANDS[verb][isRpmOstree ? 1 : 0];
  return new UnsupportedError(
    "feature",
    `This system was deployed by ostree, which this command does not handle yet; use "${command}" (nothing was changed)`,
  );
}
