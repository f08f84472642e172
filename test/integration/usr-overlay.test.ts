// `bootc usr-overlay` on a root that prepare-root mounted, in a mount namespace: what is written to /usr is
// seen, the image is not touched, and it is gone with the mount.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BIG, type ComposefsDisk, makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import { runInMountNamespace } from "../support/mount-namespace.ts";

const RUNNER = join(import.meta.dirname, "../support/prepare-root.ts");
const OVERLAY = join(import.meta.dirname, "../support/usr-overlay.ts");

let scratch: string;
let disk: ComposefsDisk;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "usr-overlay-"));
  const path = join(scratch, "disk");
  for (const name of ["disk", "m", "run"]) mkdirSync(join(scratch, name));
  disk = makeComposefsDisk(path, SKELETON);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** The root at $M as in a running system: shared, its disk read-only below /sysroot. */
function run(script: string, config = "") {
  return runInMountNamespace(
    `m=$SCRATCH/m
     mount --make-rshared /
     printf '%b' "$CONFIG" > "$SCRATCH/conf"
     "$BUN" "$RUNNER" --sysroot "$DISK" --target "$m" --config "$SCRATCH/conf" --run "$SCRATCH/run" \
       --cmdline "composefs=?$ID" >/dev/null
     overlay() { "$BUN" "$OVERLAY" "$m" "$SCRATCH/run" "$ID" "$@"; }
     usr_mounts() { grep -c " $m/usr " /proc/self/mountinfo || true; }
     ${script}`,
    {
      BUN: process.execPath,
      RUNNER,
      OVERLAY,
      SCRATCH: scratch,
      DISK: disk.path,
      ID: disk.id,
      CONFIG: config.replaceAll("\n", "\\n"),
    },
  );
}

test("writable until it is unmounted, mounted once", () => {
  const steps = run(`
    step before touch "$m/usr/new"
    step dry overlay --dry-run
    step dry-mounts usr_mounts
    step mount overlay
    step write sh -c "echo changed > '$m/usr/share/big' && echo new > '$m/usr/new' && rm '$m/usr/lib/os-release'"
    step read cat "$m/usr/share/big" "$m/usr/new"
    step again overlay
    step mounts usr_mounts
    step root touch "$m/new"
    step left ls -A "$SCRATCH/run/bootc"
    umount "$m/usr"
    step after cat "$m/usr/share/big"
    step gone ls "$m/usr/new"
    step release cat "$m/usr/lib/os-release"`);
  expect(steps.get("before")?.output).toContain("Read-only file system");
  expect(steps.get("dry")?.output).toBe('{"kind":"mount","readOnly":false}');
  expect(steps.get("dry-mounts")?.output).toBe("0");
  expect(steps.get("mount")).toEqual({ code: 0, output: '{"kind":"mount","readOnly":false}' });
  expect(steps.get("write")).toEqual({ code: 0, output: "" });
  expect(steps.get("read")?.output).toBe("changed\nnew");
  expect(steps.get("again")).toEqual({ code: 0, output: '{"kind":"nothing","reason":"mounted"}' });
  expect(steps.get("mounts")?.output).toBe("1");
  expect(steps.get("root")?.output).toContain("Read-only file system");
  expect(steps.get("left")?.output).toBe("setup-root-conf.toml");
  expect(steps.get("after")?.output).toBe(BIG);
  expect(steps.get("gone")?.code).not.toBe(0);
  expect(steps.get("release")?.output).toBe("ID=test");
});

test("read-only: a mount namespace of one's own can make it writable", () => {
  const steps = run(`
    step mount overlay --read-only
    step write touch "$m/usr/new"
    step own unshare --mount --propagation private sh -c \
      "mount -o remount,bind,rw '$m/usr' && echo own > '$m/usr/own' && cat '$m/usr/own'"
    step after touch "$m/usr/new"`);
  expect(steps.get("mount")?.output).toBe('{"kind":"mount","readOnly":true}');
  expect(steps.get("write")?.output).toContain("Read-only file system");
  expect(steps.get("own")).toEqual({ code: 0, output: "own" });
  expect(steps.get("after")?.output).toContain("Read-only file system");
});

test("a root that is in memory is writable already", () => {
  const steps = run(
    `step write touch "$m/usr/new"
     step mount overlay
     step mounts usr_mounts`,
    "[root]\ntransient = true\n",
  );
  expect(steps.get("write")?.code).toBe(0);
  expect(steps.get("mount")?.output).toBe('{"kind":"nothing","reason":"transient-root"}');
  expect(steps.get("mounts")?.output).toBe("0");
});

test("an image that was damaged since the start is not mounted, and nothing is left", () => {
  const steps = run(`
    image=$(readlink -f "$DISK/composefs/images/$ID")
    cp "$image" "$SCRATCH/image"
    printf x | dd of="$image" bs=1 seek=2000 conv=notrunc status=none
    step mount overlay
    step mounts usr_mounts
    cp "$SCRATCH/image" "$image"`);
  expect(steps.get("mount")?.code).toBe(1);
  expect(steps.get("mount")?.output).toMatch(/Cannot mount deployment [^\n]* was changed/);
  expect(steps.get("mounts")?.output).toBe("0");
});
