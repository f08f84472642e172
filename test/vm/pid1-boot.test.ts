// An initramfs with nothing but prepare-root, its libraries and the static first program, on a real kernel whose
// command line is full of what would change an ordinary Bun.

import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { emitPid1Program } from "../../scripts/build/pid1-program.ts";
import { buildExecutable, EXECUTABLE } from "../../scripts/build.ts";
import { cacheDir } from "../support/cache.ts";
import { ensureDebianKernel } from "./debian-kernel.ts";
import { startMachine } from "./machine.ts";
import { ensureToolsRoot, runTool } from "./tools-root.ts";

const LIBRARIES = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"];
const LIBRARY_DIR = "usr/lib/x86_64-linux-gnu";
const LOADER = "ld-linux-x86-64.so.2";
const HOSTILE =
  "BUN_BE_BUN=1 BUN_OPTIONS=--version BUN_JSC_useJIT=0 BUN_INSPECT=1 LD_PRELOAD=/x.so";
const WAIT_MS = 120_000;

let scratch: string;
beforeAll(() => {
  mkdirSync(join(cacheDir, "vm"), { recursive: true });
  scratch = mkdtempSync(join(cacheDir, "vm/pid1-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function makeInitramfs(): Promise<string> {
  const tools = await ensureToolsRoot();
  const tree = join(scratch, "tree");
  const put = (from: string, to: string) => {
    mkdirSync(join(tree, dirname(to)), { recursive: true });
    copyFileSync(from, join(tree, to));
    chmodSync(join(tree, to), 0o755);
  };
  for (const name of LIBRARIES) put(join(tools, LIBRARY_DIR, name), `${LIBRARY_DIR}/${name}`);
  put(join(tools, LIBRARY_DIR, LOADER), `lib64/${LOADER}`);
  put(EXECUTABLE, "usr/bin/bootc");
  mkdirSync(join(tree, "usr/lib/bootc"));
  symlinkSync("../../bin/bootc", join(tree, "usr/lib/bootc/prepare-root"));
  for (const name of ["proc", "dev"]) mkdirSync(join(tree, name));
  writeFileSync(join(tree, "init"), emitPid1Program("x64"), { mode: 0o755 });
  const image = join(scratch, "initramfs.img");
  const pack = 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 | zstd -q -3 > "$2"';
  await runTool(["sh", "-c", pack, "sh", tree, image]);
  rmSync(tree, { recursive: true });
  return image;
}

test("the kernel starts it, it starts prepare-root, and the command line's words change nothing", async () => {
  await buildExecutable();
  const kernel = await ensureDebianKernel("trixie", console.log);
  const append = `console=ttyS0,115200 no_timer_check panic=5 root=/dev/nodisk composefs=${"ab".repeat(64)}`;
  await using machine = await startMachine({
    name: "pid1",
    boot: {
      kind: "kernel",
      kernel: kernel.vmlinuz,
      initrd: await makeInitramfs(),
      append: `${append} ${HOSTILE}`,
    },
    disks: [],
    memoryMb: 768,
    agent: false,
    onLine: console.log,
  });
  // It has /proc (the command line, its own environment), /dev (the kernel log) and system calls.
  const [refusal] = await machine.waitForConsole(
    /prepare-root: refused: [^\r\n]*(?=[\r\n])/,
    WAIT_MS,
  );
  expect(refusal).toContain('There is no disk "/dev/nodisk", as root= says');
  await machine.waitForConsole(/prepare-root: restarting in 5 seconds/, WAIT_MS);
  await machine.waitForConsole(/reboot: Restarting system/, WAIT_MS);
  await machine.kill();
});
