// execve and the lazy loading of the C library, in child processes.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

function runScript(source: string, environment: Record<string, string> = {}) {
  const here = fileURLToPath(new URL(".", import.meta.url));
  const script = source.replaceAll("HERE", here);
  return spawnSync(process.execPath, ["-e", script], {
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin", ...environment },
  });
}

describe("execve", () => {
  it("becomes the program, with its arguments, environment and ordinary signals and limits", () => {
    const child = runScript(`
      const { execve } = await import("HERE/process.ts");
      const script = 'grep -E "^Sig(Ign|Blk)" /proc/self/status; ulimit -Sn; echo "$0 $1 $A $PATH"; ls -l /proc/self/fd | grep -c "eventpoll\\\\|eventfd"';
      execve("/bin/sh", ["name", "-c", script, "zero", "ü"], { A: "b c", PATH: "/usr/bin:/bin" });
    `);
    expect(child.stdout.trim().split(/\s*\n/)).toEqual([
      "SigBlk:\t0000000000000000",
      "SigIgn:\t0000000000000000",
      "1024",
      "zero ü b c /usr/bin:/bin",
      "0",
    ]);
  });

  it("comes back with the reason when it cannot", () => {
    const child = runScript(`
      const { execve } = await import("HERE/process.ts");
      try { execve("/no/init", ["init"], {}); } catch (error) { console.log(error.code, error.message); }
    `);
    expect(child.stdout).toBe('ENOENT execve "/no/init": No such file or directory\n');
  });
});

describe("the C library", () => {
  it("is loaded at the first call, so that a failure can be caught", () => {
    const child = runScript(
      `
      const { openat } = await import("HERE/file.ts");
      try { openat(null, "/", 0); } catch (error) { console.log(error.kind, error.code, error.message); }
    `,
      { BUN_JSC_useJIT: "0" },
    );
    expect(child.stdout).toBe(
      "unsupported feature Cannot call the C library (libc.so.6, with a working JIT, is needed)\n",
    );
  });
});
