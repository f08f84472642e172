// The bootc command on a system that the real ostree has deployed: it describes it, refuses what
// would change it, and changes nothing.

import { beforeAll, expect, test } from "vitest";
import { buildExecutable } from "../../scripts/build.ts";
import type { Host } from "../../updater/spec/host.ts";
import { disk, runOnOstreeDisk, useOstreeDisk } from "../support/ostree-sysroot.ts";

beforeAll(async () => {
  await buildExecutable();
}, 300_000);
useOstreeDisk();

/** Enters the new root with the Debian tree's programs and ours. */
const ENTER = `
for name in proc dev run; do mount --rbind "$name" "sysroot/$name"; done
mount -t tmpfs tmp sysroot/tmp
cp "$SCRATCH/proc-cmdline" sysroot/tmp/cmdline
mount --bind sysroot/tmp/cmdline sysroot/proc/cmdline
mount --bind usr sysroot/usr
touch sysroot/tmp/bootc
mount --bind opt/project/dist/bootc sysroot/tmp/bootc
mount --bind sysroot/sysroot/boot sysroot/boot
inside() { chroot sysroot sh -euc "$1"; }
listing() { inside 'find /sysroot /run/ostree* -printf "%y %m %s %T@ %p %l\\n" | sort | sha256sum'; }
`;

async function run(script: string): Promise<string> {
  const libConfig = "[composefs]\nenabled=yes\n";
  const each = { libConfig, after: `${ENTER}${script}` };
  const { ours } = await runOnOstreeDisk(disk, each, ["ours"]);
  expect(ours.code, ours.output).toBe(0);
  return ours.after;
}

test("bootc status describes the deployment that ostree admin status shows", async () => {
  const output = await run(`inside "ostree admin status; echo ==; /tmp/bootc status --json"`);
  const [theirs, ours] = output.split("==\n") as [string, string];
  expect(theirs).toContain(`* labos ${disk.commit}.0`);
  const { status } = JSON.parse(ours) as Host;
  expect(status.booted?.ostree).toEqual({
    stateroot: "labos",
    checksum: disk.commit,
    deploySerial: 0,
  });
  expect(status).toMatchObject({ staged: null, rollback: null, rollbackQueued: false, type: null });
  expect(status.problems).toBeUndefined();
});

test.each([
  ["upgrade", "ostree admin upgrade"],
  ["upgrade --check", "ostree admin upgrade"],
  ["switch quay.io/example/os", "ostree admin switch"],
  ["switch --transport oci /nowhere", "ostree admin switch"],
  ["rollback", "ostree admin set-default 1"],
  ["internals composefs-gc", "ostree admin cleanup"],
  ["composefs-finalize-staged", "ostree admin finalize-staged"],
  ["internals fsck", "bootc internals ostree verify"],
])("bootc %s names the command that does it here, and changes nothing", async (words, command) => {
  const output = await run(`
    before=$(listing)
    inside "/tmp/bootc ${words}" 2>&1 && echo "exit code 0" || echo "exit code $?"
    [ "$before" = "$(listing)" ] && echo unchanged`);
  const [message, ...rest] = output.trim().split("\n");
  expect(message).toMatch(/^error: This system was deployed by ostree/);
  expect(message).toContain(`use "${command}"`);
  expect(rest).toEqual(["exit code 1", "unchanged"]);
});

test("where there is rpm-ostree, it is the one that is named", async () => {
  const output = await run(`
    cp usr/bin/true usr/bin/rpm-ostree
    inside "/tmp/bootc upgrade" 2>&1 || true`);
  expect(output).toContain('use "rpm-ostree upgrade"');
});
