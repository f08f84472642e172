// prepare-root --target on a system that runs from the same disk, as a soft reboot calls it: the disk is
// mounted read-only and shared, as systemd makes all mounts, and must stay as it is.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ComposefsDisk, makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import { parseMountinfo, runInMountNamespace } from "../support/mount-namespace.ts";

const RUNNER = join(import.meta.dirname, "../support/prepare-root.ts");

let scratch: string;
let disk: ComposefsDisk;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-target-"));
  for (const name of ["disk", "sysroot", "run", "next"]) mkdirSync(join(scratch, name));
  disk = makeComposefsDisk(join(scratch, "disk"), SKELETON);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const SCRIPT = `
mount --make-rshared /
mount --bind "$DISK" "$SCRATCH/sysroot"
mount -o remount,bind,ro "$SCRATCH/sysroot"
mount --make-shared "$SCRATCH/sysroot"
# Somebody whose mounts follow ours, as services with mounts of their own do.
mkfifo "$SCRATCH/hold"
unshare --mount --propagation slave sh -c 'read line < "$SCRATCH/hold"' </dev/null >/dev/null 2>&1 & other=$!
trap 'kill $other; rm -f "$SCRATCH/hold"' EXIT
grep " $SCRATCH" /proc/self/mountinfo > "$SCRATCH/before"
printf '%b' "$CONFIG" > "$SCRATCH/conf"
step prepare "$BUN" "$RUNNER" --sysroot "$SCRATCH/sysroot" --target "$SCRATCH/next" \
  --config "$SCRATCH/conf" --run "$SCRATCH/run" --cmdline "composefs=?$ID"
step mounts cat /proc/self/mountinfo
step etc sh -c 'ls "$SCRATCH/next/etc" && touch "$SCRATCH/next/etc/new" && rm "$SCRATCH/next/etc/new"'
step var sh -c 'cat "$SCRATCH/next/var/kept" && touch "$SCRATCH/next/var/new" && rm "$SCRATCH/next/var/new"'
step sysroot touch "$SCRATCH/next/sysroot/new"
step running touch "$SCRATCH/sysroot/new"
mkdir -p "$SCRATCH/disk/state/os/default/var/data"
mount -t tmpfs none "$SCRATCH/next/var/data"
step heard grep -c "sysroot/state/os/default/var/data" /proc/self/mountinfo
step after sh -c 'grep " $SCRATCH" /proc/self/mountinfo | grep -v " $SCRATCH/next" | cut -d" " -f3- | sort'
step free umount "$SCRATCH/sysroot"
umount --lazy "$SCRATCH/next"
step before sh -c 'cut -d" " -f3- "$SCRATCH/before" | sort'
step others grep -c "$SCRATCH/run\\|$SCRATCH/next" /proc/$other/mountinfo
step left ls -A "$SCRATCH/run"
`;

test.each([
  ["this kernel", undefined, "", "bind"],
  ["a kernel before 6.15", { detachedTrees: false }, "", "bind"],
  ["5.15", { detachedTrees: false, layers: "plain", erofs: "loop", verity: false }, "", "bind"],
  ["/etc as an overlay on the disk", undefined, '[etc]\nmount = "overlay"\n', "overlay"],
  [
    "/etc as an overlay, before 6.15",
    { detachedTrees: false },
    '[etc]\nmount = "overlay"\n',
    "overlay",
  ],
])("%s", (_, kernel, config, etc) => {
  const steps = runInMountNamespace(SCRIPT, {
    BUN: process.execPath,
    RUNNER,
    SCRATCH: scratch,
    DISK: disk.path,
    ID: disk.id,
    CONFIG: config.replaceAll("\n", "\\n"),
    ...(kernel === undefined ? {} : { PREPARE_ROOT_KERNEL: JSON.stringify(kernel) }),
  });
  const output = (name: string) => steps.get(name)!.output;
  expect(output("prepare")).toContain(`root=ro etc=${etc} var=bind`);
  const mounts = parseMountinfo(output("mounts"));
  const at = (path: string) => mounts.filter(({ target }) => target === join(scratch, path));
  expect(at("next").map(({ source }) => source)).toEqual([`composefs:${disk.id}`]);
  expect(at("next/sysroot")[0]?.options).toMatch(/^ro,/);
  expect([steps.get("etc")?.code, steps.get("var")?.code]).toEqual([0, 0]);
  expect(output("etc")).toContain(etc === "bind" ? "machine-file" : "image-default");
  expect(output("sysroot")).toContain("Read-only file system");
  // The running system's own mount: still read-only, and deaf to what is mounted in the new root.
  expect(output("running")).toContain("Read-only file system");
  expect(output("heard")).toBe("0");
  expect(output("after")).toBe(output("before"));
  // systemd unmounts it while the new root is there.
  expect(steps.get("free")).toEqual({ code: 0, output: "" });
  expect(output("others")).toBe("0");
  // What was trusted, for bootc status.
  expect(output("left")).toBe("composefs");
});
