// One way to start the ostree guest: prepare-root.conf, keys, words of the command line, changes to the
// disk; and what is to be seen of it afterwards. Invariants: what is written in the waiting initramfs is
// gone with the guest; numbers that are new in each boot (mount ids, anonymous devices) are left out.

import type { Machine } from "./machine.ts";

export type OstreeBootCase = {
  readonly config: string;
  /** More words for the command line. */
  readonly extra?: string;
  /** Of initramfs-root-binding.key; without it there is no such file. */
  readonly key?: string;
  /** Shell commands on the disk; $D is the deployment, $OBJECT the commit's object without suffix. */
  readonly setup?: string;
};

type OstreeTarget = { readonly deployment: string; readonly commit: string };

const SLOW_MS = 600_000;
const CONFIG_FILE = "/etc/ostree/prepare-root.conf";
export const KEY_FILE = "/etc/ostree/initramfs-root-binding.key";

/** Commands for the waiting initramfs that set the case up. */
export function setupCommands(each: OstreeBootCase, guest: OstreeTarget): string {
  const { commit, deployment } = guest;
  const object = `ostree/repo/objects/${commit.slice(0, 2)}/${commit.slice(2)}`;
  return `
    set -e
    mkdir -p /etc/ostree /run/rig
    rm -f ${KEY_FILE}
    cat >${CONFIG_FILE} <<'END'\n${each.config}\nEND
    ${each.key === undefined ? "" : `echo '${each.key}' >${KEY_FILE}`}
    [ -e /run/rig/cmdline ] || { cp /proc/cmdline /run/rig/original; : >/run/rig/cmdline
      mount --bind /run/rig/cmdline /proc/cmdline; }
    echo "$(cat /run/rig/original) ${each.extra ?? ""}" >/run/rig/cmdline
    cd /sysroot
    D=${deployment} OBJECT=${object}
    ${each.setup ?? ""}
    sync`;
}

/** What a program has left in a mount namespace of its own in the waiting initramfs. */
export async function runInInitramfs(machine: Machine, program: string): Promise<string> {
  // With a /run of its own, for the real one takes no /run/ostree that is there already.
  const output = await machine.must(
    `unshare --mount --propagation private bash -c '
      mount -t tmpfs -o mode=0755 run /run
      ${program} /sysroot "$(cat /proc/cmdline)" >/tmp/output 2>&1; echo "exit code $?"
      ${MOUNTS}; ${RUN_FILES};
      stat -c "%i %a" /sysroot/etc/hostname /sysroot/usr/bin/bash /sysroot/sysroot/ostree/repo/config'`,
    { timeoutMs: SLOW_MS },
  );
  return normalize(output);
}

/** Left out: numbers of mounts, of devices without a disk, and of groups that share mounts. */
const MOUNTS =
  'cut -d " " -f 3- /proc/self/mountinfo | grep -E "^[^ ]+ [^ ]+ /(sysroot|etc|usr|var|boot)?[/ ]"';
const RUN_FILES = `find /run/ostree /run/ostree-booted /run/systemd/volatile-root \\
  -printf "%y %m %s %p %l\\n" 2>/dev/null | sort -k 4
  sed "s/transient-etc\\.[A-Za-z0-9]*/transient-etc.XXXXXX/" /run/ostree-booted | od -A d -t x1`;

function normalize(text: string): string {
  return text
    .replaceAll(/^0:\d+ /gm, "0:* ")
    .replaceAll(/(shared|master|propagate_from):\d+/g, "$1:*")
    .replaceAll(/transient-etc\.[A-Za-z0-9]{6}/g, "transient-etc.XXXXXX");
}

type StartedFacts = {
  /** Of systemd: "running", or with the failed units. */
  readonly state: string;
  readonly status: string;
  readonly mounts: readonly string[];
  readonly run: readonly string[];
  /** Whether one can write to /, /usr, /etc, /var and /sysroot. */
  readonly writable: string;
  /** ostree's units that ran. */
  readonly units: string;
  /** Fields of the journal's records of the deployment; the real program writes two. */
  readonly records: string;
};

/** What there is to see on the started system. */
export async function readStartedFacts(machine: Machine): Promise<StartedFacts> {
  const must = (command: string) => machine.must(command, { timeoutMs: SLOW_MS });
  const state = await must("systemctl is-system-running --wait; systemctl --failed --no-legend");
  const lines = (text: string) => normalize(text).split("\n");
  return {
    state,
    status: await must("ostree admin status"),
    // Sorted: systemd mounts /boot and /var at the same time.
    mounts: lines(await must(MOUNTS)).toSorted(),
    run: lines(await must(RUN_FILES)),
    writable: await must(
      "for d in / /usr /etc /var /sysroot; do touch $d/rig 2>/dev/null && echo $d; done; true",
    ),
    units: await must(
      "systemctl --no-legend --plain --all list-units 'ostree*' '*.mount' | grep -E 'ostree|^(boot|var|etc|usr|sysroot|-)\\.mount' | tr -s ' ' | sort",
    ),
    records: await must(
      "journalctl -b -o cat --output-fields=DEPLOYMENT_PATH,DEPLOYMENT_DEVICE,DEPLOYMENT_INODE MESSAGE_ID=7170336a73ba4601bad31af888aa0df7 | sort -u",
    ),
  };
}

/** The booted record's keys, as text. */
export async function readBootedText(machine: Machine): Promise<string> {
  return machine.must("tr -c '[:print:]' ' ' </run/ostree-booted | tr -s ' '");
}
