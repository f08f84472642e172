// Waiting for inhibitor locks with the real logind, dbus-daemon, busctl and systemd-inhibit of the
// systemd tools root, in namespaces of their own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runInMountNamespace } from "../support/mount-namespace.ts";
import { ROOT as PROJECT } from "../support/source-tree.ts";
import { ensureSystemdTools } from "../support/systemd-tools.ts";

let tree: string;
let scratch: string;
beforeAll(async () => {
  tree = await ensureSystemdTools(console.log);
  scratch = mkdtempSync(join(tmpdir(), "inhibitors-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

// logind is started by the bus when somebody first calls it, so nothing has to be waited for. Each lock is held
// until its pipe is written to.
const SCRIPT = `
  mkdir "$SCRATCH/root" "$SCRATCH/bin" "$SCRATCH/layers"
  mount -t tmpfs layers "$SCRATCH/layers"
  mkdir "$SCRATCH/layers/upper" "$SCRATCH/layers/work"
  root=$SCRATCH/root
  mount -t overlay overlay \\
    -o "lowerdir=$TREE,upperdir=$SCRATCH/layers/upper,workdir=$SCRATCH/layers/work" "$root"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -t proc proc "$root/proc"
  mount -t tmpfs run "$root/run"
  mkdir -p "$root/run/dbus" "$root/run/systemd/system" "$root/run/systemd/inhibit"
  echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
  printf '[D-BUS Service]\\nName=org.freedesktop.login1\\nExec=/usr/lib/systemd/systemd-logind\\nUser=root\\n' \\
    >"$root/usr/share/dbus-1/system-services/org.freedesktop.login1.service"
  printf '#!/bin/sh\\nexec chroot "%s" busctl "$@"\\n' "$root" >"$SCRATCH/bin/busctl"
  chmod +x "$SCRATCH/bin/busctl"
  mkfifo "$SCRATCH/address" "$SCRATCH/held" "$SCRATCH/said" "$root/run/one" "$root/run/two"
  chroot "$root" dbus-daemon --system --nofork --nopidfile --print-address >"$SCRATCH/address" &
  read -r address <"$SCRATCH/address"
  hold() {
    chroot "$root" systemd-inhibit --what="$1" --mode="$2" --who="$3" --why=Because \\
      sh -c 'echo held; read -r line <"/run/$0"' "$3" >"$SCRATCH/held" &
    read -r line <"$SCRATCH/held"
  }
  hold shutdown delay two
  step none env PATH="$SCRATCH/bin:$PATH" "$BUN" "$PROJECT/test/support/inhibitor-child.ts" "$root/run"
  hold idle:shutdown block one
  env PATH="$SCRATCH/bin:$PATH" "$BUN" "$PROJECT/test/support/inhibitor-child.ts" "$root/run" >"$SCRATCH/said" &
  exec 4<"$SCRATCH/said"
  read -r first <&4
  step first echo "$first"
  echo release >"$root/run/one"
  read -r last <&4
  step last echo "$last"
`;

/** Ends whatever is left: everything is in a process namespace of its own. */
function runApart(script: string) {
  const environment = { BUN: process.execPath, PROJECT, SCRATCH: scratch, TREE: tree };
  const apart = `exec unshare --pid --fork --kill-child --mount-proc -- sh -c "$INNER"`;
  // The steps are written by the inner shell; it has the same prelude.
  const inner = `${PRELUDE}${script}`;
  return runInMountNamespace(apart, { ...environment, INNER: inner });
}
const PRELUDE = `set -eu
step() {
  name=$1; shift
  printf '\\n@@begin %s\\n' "$name"
  code=0; "$@" 2>&1 || code=$?
  printf '\\n@@end %s\\n' "$code"
}
`;

test("waits for a lock against shutting down, not for a delay", { timeout: 120_000 }, () => {
  const steps = runApart(SCRIPT);
  expect(steps.get("none")!.output).toBe("free []");
  const [, holders] = /^waiting (.*)$/.exec(steps.get("first")!.output) ?? [];
  expect(JSON.parse(holders!)).toEqual([{ who: "one", why: "Because", pid: expect.any(Number) }]);
  expect(steps.get("last")!.output).toBe(`free ${holders}`);
});
