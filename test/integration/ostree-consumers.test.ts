// What runs on a system that prepare-root has started: libostree, ostree's generator, ostree-remount and
// the preparation of a soft reboot must find the same, whichever program started it.

import { expect, test } from "vitest";
import {
  disk,
  hideRandomName,
  type OstreeCase,
  type OstreeRun,
  runOnOstreeDisk,
  useOstreeDisk,
} from "../support/ostree-sysroot.ts";

useOstreeDisk();

/** Enters the new root, with the Debian tree's programs over its own. */
const ENTER = `
for name in proc dev run; do mount --rbind "$name" "sysroot/$name"; done
mount -t tmpfs tmp sysroot/tmp
cp "$SCRATCH/proc-cmdline" sysroot/tmp/cmdline
mount --bind sysroot/tmp/cmdline sysroot/proc/cmdline
mount --bind usr sysroot/usr
# As the units do that ostree's generator makes.
mount --bind sysroot/sysroot/boot sysroot/boot
mount --bind sysroot/sysroot/ostree/deploy/labos/var sysroot/var
inside() { chroot sysroot sh -euc "$1"; }
table() { inside 'cut -d" " -f4-6 /proc/self/mountinfo | grep -E " /(sysroot|etc|var|run/nextroot)?(/[a-z./0-9]*)? "'; }
`;

async function runBoth(each: OstreeCase): Promise<{ ours: OstreeRun; theirs: OstreeRun }> {
  const after = `${ENTER}${each.after}`;
  const runs = await runOnOstreeDisk(disk, { ...each, after }, ["theirs", "ours"]);
  expect(runs.theirs.code, runs.theirs.output).toBe(0);
  expect(runs.ours.code, runs.ours.output).toBe(0);
  return runs;
}

const CONFIGS = [
  ["composefs", "[composefs]\nenabled=yes\n"],
  ["a bound root", "[sysroot]\nreadonly=true\n"],
  ["a transient /etc", "[composefs]\nenabled=yes\n[etc]\ntransient=true\n"],
] as const;

test.each(CONFIGS)("ostree admin status knows the deployment: %s", async (_, libConfig) => {
  const { ours, theirs } = await runBoth({ libConfig, after: "inside 'ostree admin status'" });
  expect(ours.after).toContain(`* labos ${disk.commit}.0`);
  expect(ours.after).toBe(theirs.after);
});

test("ostree's generator makes the same units", async () => {
  const { ours, theirs } = await runBoth({
    libConfig: "[composefs]\nenabled=yes\n",
    after: `inside '
      mkdir /tmp/units
      cd /tmp/units
      /usr/lib/systemd/system-generators/ostree-system-generator . . .
      find . -printf "%y %p %l\\n" | sort
      find . -type f | sort | xargs cat'`,
  });
  expect(ours.after).toContain("What=/sysroot/ostree/deploy/labos/var");
  expect(ours.after).toContain("boot.mount");
  expect(ours.after).toBe(theirs.after);
});

test.each(CONFIGS)("ostree-remount works on what it finds: %s", async (_, libConfig) => {
  const { ours, theirs } = await runBoth({
    libConfig,
    after: "inside /usr/lib/ostree/ostree-remount; table",
  });
  expect(ours.after).toContain("/sysroot ro");
  expect(hideRandomName(ours.after)).toBe(hideRandomName(theirs.after));
});

test("a soft reboot is prepared on top of what was mounted", async () => {
  const { ours, theirs } = await runBoth({
    libConfig: "[composefs]\nenabled=yes\n",
    after: `inside '
      cd "/sysroot/$DEPLOYMENT"
      ostree admin impl-prepare-soft-reboot
      find /run/ostree /run/nextroot -maxdepth 1 -printf "%y %m %p\\n" | sort
      od -A d -t x1 /run/ostree/nextroot-booted'
      table`,
  });
  expect(ours.after).toContain("/run/nextroot/sysroot");
  expect(ours.after).toBe(theirs.after);
});
