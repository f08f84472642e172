// The built composefs tools with several threads: the same output as with one and as C's, one line for
// what goes wrong in a helping thread, and an end when the user wants one.

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildExecutable, EXECUTABLE } from "../../scripts/build.ts";
import { lsetxattr } from "../../shared/sys/xattr.ts";
import { runInMountNamespace } from "../support/mount-namespace.ts";
import { ensureToolsRoot, runTool } from "../vm/tools-root.ts";

const SIZES = [0, 10, 64, 65, 4096, 5000, 40_000, 300_000, 1 << 20, 2_500_000];

let scratch: string;
let tree: string;
beforeAll(async () => {
  await buildExecutable();
  await ensureToolsRoot();
  scratch = mkdtempSync(join(tmpdir(), "composefs-threads-"));
  tree = join(scratch, "tree");
  makeTree();
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** 40 directories, 400 files of 160 MB in all: enough for every helper that is allowed. */
function makeTree(): void {
  for (let directory = 0; directory < 40; directory++) {
    const path = join(tree, `d${directory % 5}`, `${directory}`);
    mkdirSync(path, { recursive: true });
    for (const [index, size] of SIZES.entries()) {
      const file = join(path, `f${index}`);
      // Every fourth directory has the same content.
      writeFileSync(file, Buffer.alloc(size, `${directory % 4 === 0 ? 0 : directory} ${index} `));
      if (index % 3 === 0) lsetxattr(file, "user.kind", Buffer.from(`${index % 2}`));
    }
    linkSync(join(path, "f7"), join(tree, `linked-${directory}`));
    symlinkSync("f1", join(path, "link"));
  }
}

interface Outcome {
  readonly out: string;
  readonly err: string;
  readonly code: number | null;
}

function runOurs(tool: string, args: readonly string[], wrapper: readonly string[] = []): Outcome {
  const [program, ...words] = [...wrapper, EXECUTABLE, "internals", tool, ...args];
  const { stdout, stderr, status } = spawnSync(program!, words, { cwd: scratch });
  return { out: stdout.toString(), err: stderr.toString(), code: status };
}

const listStore = (name: string) => readdirSync(join(scratch, name), { recursive: true }).sort();

describe("a directory", () => {
  test("comes to the same image and store as C makes, with any number of threads", async () => {
    const args = (name: string) => ["--print-digest", `--digest-store=${name}.store`, "tree", name];
    const words = args("c").map((word) => word.replace(/(?=c\.store|^c$|^tree$)/, `${scratch}/`));
    const wanted = await runTool(["mkcomposefs", ...words]);
    for (const threads of [1, 2, 7, 1000]) {
      const name = `ours-${threads}`;
      const outcome = runOurs("mkcomposefs", [`--threads=${threads}`, ...args(name)]);
      expect(outcome).toEqual({ out: wanted, err: "", code: 0 });
      const image = readFileSync(join(scratch, name));
      expect(image.equals(readFileSync(join(scratch, "c")))).toBe(true);
      expect(listStore(`${name}.store`)).toEqual(listStore("c.store"));
      const only = runOurs("mkcomposefs", [`--threads=${threads}`, "--print-digest-only", "tree"]);
      expect(only).toEqual({ out: wanted, err: "", code: 0 });
    }
  });

  test("with files that may not be read: one that is empty need not be", () => {
    const [secret, empty] = [join(tree, "d3/3/f8"), join(tree, "d3/3/empty")];
    chmodSync(scratch, 0o755);
    writeFileSync(empty, "", { mode: 0 });
    const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const build = (wrapper: readonly string[]) =>
      runOurs("mkcomposefs", ["--print-digest-only", "tree"], wrapper);
    expect(build(nobody)).toEqual(build([]));
    chmodSync(secret, 0);
    const outcome = build(nobody);
    chmodSync(secret, 0o644);
    rmSync(empty);
    expect(outcome).toEqual({
      out: "",
      err: `mkcomposefs: openat "${secret}": Permission denied\n`,
      code: 1,
    });
  });

  test("a store that is full", () => {
    const mount = join(scratch, "small");
    mkdirSync(mount);
    const script =
      'mount -t tmpfs -o size=20m none "$STORE"; cd "$DIR"\n' +
      'step build "$PROGRAM" internals mkcomposefs "--digest-store=$STORE/store" tree full';
    const steps = runInMountNamespace(script, {
      PROGRAM: EXECUTABLE,
      DIR: scratch,
      STORE: mount,
    });
    const { output, code } = steps.get("build")!;
    const store = join(mount, "store");
    expect(output).toContain(
      `mkcomposefs: No space left for the digest store "${store}"; free some space and try again: `,
    );
    expect(output.split("\n")).toHaveLength(1);
    expect(code).toBe(1);
    expect(existsSync(join(scratch, "full"))).toBe(false);
  });
});

describe("measure-file", () => {
  const files = () => SIZES.map((_, index) => join(tree, "d1/1", `f${index}`)).slice(1);

  test("prints in the order of the arguments, up to the first that fails", () => {
    const many = Array.from({ length: 12 }, files).flat();
    const whole = runOurs("composefs-info", ["measure-file", ...many]);
    const each = files().map((file) => runOurs("composefs-info", ["measure-file", file]).out);
    expect(whole).toEqual({ out: each.join("").repeat(12), err: "", code: 0 });
    const missing = join(scratch, "missing");
    const partly = runOurs("composefs-info", ["measure-file", ...many, missing, ...many]);
    expect(partly.out).toBe(whole.out);
    expect(partly.err).toContain(`Failed to measure "${missing}": `);
    expect(partly.code).toBe(1);
  });

  test("ends at once when it is interrupted while its helper works", async () => {
    const fifo = join(scratch, "fifo");
    spawnSync("mkfifo", [fifo]);
    const many = Array.from({ length: 12 }, files).flat();
    const words = ["internals", "composefs-info", "measure-file", ...many, fifo];
    const child = spawn(EXECUTABLE, words, { stdio: "ignore" });
    const ended = new Promise((resolve) => child.on("exit", (...how) => resolve(how)));
    // Opening it for writing waits for the program to have come so far. It then reads, and nothing comes.
    const writer = openSync(fifo, "w");
    await expect.poll(() => helperTicks(child.pid!), { timeout: 60_000 }).toBeGreaterThan(1);
    child.kill("SIGINT");
    expect(await ended).toEqual([null, "SIGINT"]);
    closeSync(writer);
  });
});

/** Processor time of the helping threads in clock ticks. */
function helperTicks(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  const stats = readdirSync(tasks).map((tid) => readFileSync(`${tasks}/${tid}/stat`, "utf8"));
  return stats
    .filter((stat) => stat.includes("(Worker)"))
    .map((stat) => stat.slice(stat.lastIndexOf(")") + 2).split(" "))
    .reduce((sum, fields) => sum + Number(fields[11]) + Number(fields[12]), 0);
}
