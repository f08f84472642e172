// The static first program of an initramfs without systemd, run as PID 1 of a namespace: what it prepares, what it
// starts, with which environment, and what it says when that is not there.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { emitPid1Program } from "../../scripts/build/pid1-program.ts";
import { runInMountNamespace } from "../support/mount-namespace.ts";

/** Stands in for prepare-root, which needs the same: a C library, and so /proc and /dev. */
const PROGRAM = `#!/bin/bun
import { readFileSync, existsSync, writeSync } from "node:fs";
const mounts = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\\n").map((line) => line.split(" "));
const options = (path) => mounts.findLast((fields) => fields[4] === path)?.[5];
const { pid, env } = process;
const found = { pid, env, words: process.argv.slice(2), proc: options("/proc"), dev: options("/dev") };
writeSync(1, JSON.stringify({ ...found, null: existsSync("/dev/null") }) + "\\n");
`;

const SCRIPT = `
mount -t tmpfs none "$SCRATCH/m"
cp -a "$SCRATCH/root/." "$SCRATCH/m"
step start unshare --pid --fork env -i FROM=outside BUN_OPTIONS=--version BUN_BE_BUN=1 PATH=/nowhere "$(command -v chroot)" "$SCRATCH/m" /init one "two words"
rm "$SCRATCH/m/usr/lib/bootc/prepare-root"
: >"$SCRATCH/kmsg"
step missing unshare --pid --fork chroot "$SCRATCH/m" /init
`;

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "pid1-"));
  const root = join(scratch, "root");
  const libraries = execFileSync("ldd", [process.execPath], { encoding: "utf8" });
  for (const [, path] of libraries.matchAll(/(\/\S+) \(0x/g)) {
    mkdirSync(join(root, dirname(path!)), { recursive: true });
    copyFileSync(path!, join(root, path!));
  }
  for (const path of ["m", "root/proc", "root/dev", "root/bin", "root/usr/lib/bootc"]) {
    mkdirSync(join(scratch, path), { recursive: true });
  }
  copyFileSync(process.execPath, join(root, "bin/bun"));
  chmodSync(join(root, "bin/bun"), 0o755);
  if (process.arch !== "x64" && process.arch !== "arm64") throw new Error("Bun is for neither");
  writeFileSync(join(root, "init"), emitPid1Program(process.arch), { mode: 0o755 });
  writeFileSync(join(root, "usr/lib/bootc/prepare-root"), PROGRAM, { mode: 0o755 });
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test("it mounts /proc and /dev and becomes prepare-root, in an environment of its own", () => {
  const steps = runInMountNamespace(SCRIPT, { SCRATCH: scratch });
  const { code, output } = steps.get("start")!;
  expect(code).toBe(0);
  const { dev, proc, ...found } = JSON.parse(output);
  expect(found).toEqual({
    pid: 1,
    env: { HOME: "/", PATH: "/usr/sbin:/usr/bin:/sbin:/bin", TERM: "linux" },
    words: ["one", "two words"],
    null: true,
  });
  expect(proc).toBe("rw,nosuid,nodev,noexec,relatime");
  expect(dev).toBe("rw,nosuid,relatime");
  expect(steps.get("missing")?.code).toBe(1);
});

test("it is a small static program without sections, for both architectures", () => {
  for (const [architecture, machine] of [
    ["x64", 62],
    ["arm64", 183],
  ] as const) {
    const program = Buffer.from(emitPid1Program(architecture));
    expect(program.length).toBeLessThan(700);
    expect(program.readUInt16LE(18)).toBe(machine);
    // One segment, which nothing can write to.
    expect([program.readUInt16LE(56), program.readUInt32LE(64 + 4)]).toEqual([1, 5]);
  }
});

test("the instructions for arm64 are the expected ones", () => {
  const program = Buffer.from(emitPid1Program("arm64"));
  const words = Array.from({ length: 60 }, (_, index) => program.readUInt32LE(120 + 4 * index));
  const calls = words.flatMap((word, index) => (word === 0xd4000001 ? [index] : []));
  // movz x8, number; movk x8, 0, lsl 16; svc 0
  const numbers = calls.map((index) => (words[index - 2]! >>> 5) & 0xffff);
  expect(numbers).toEqual([40, 40, 221, 56, 64, 94]);
  for (const index of calls) {
    expect(words[index - 2]! & 0xffe0001f).toBe(0xd2800008 | 0);
    expect(words[index - 1]).toBe(0xf2a00008);
  }
  // str x0, [sp, 8]; add x1, sp, 8
  expect(words).toContain(0xf90007e0);
  expect(words[words.indexOf(0xf90007e0) + 1]).toBe(0x910023e1);
});
