// Nothing in the environment or the current directory may change what the executable does.
//
// Each probe is tried on two programs: an ordinary `bun build --compile`, where it must have its
// effect (else the probe proves nothing), and one compiled as dist/bootc is, where it must have none.
// Then dist/bootc itself is run with everything at once.

import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MACHINE } from "../scripts/build/elf.ts";
import { disableJscPrefix } from "../scripts/build/jsc-prefix.ts";
import { BUN, buildExecutable, compileHardened, EXECUTABLE } from "../scripts/build.ts";

/** Says what the environment did to it. With an argument it lives for a second: time to be inspected. */
const PROBE = `
import { dlopen } from "bun:ffi";
const report = { env: process.env.FROM_DOTENV ?? null, preloaded: globalThis.preloaded ?? false };
try { dlopen("libc.so.6", { getpid: { args: [], returns: "i32" } }); report.ffi = true; }
catch { report.ffi = false; }
if (process.argv.length > 2) await new Promise((done) => setTimeout(done, 1000));
console.log(JSON.stringify(report));
`;
const UNTOUCHED = { env: null, preloaded: false, ffi: true };

let scratch: string;
let control: string;
let hardened: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "hardening-"));
  control = join(scratch, "bin/control");
  hardened = join(scratch, "bin/hardened");
  mkdirSync(join(scratch, "bin"));
  const source = join(scratch, "bin/probe.js");
  writeFileSync(source, PROBE);
  compileControl(source, control);
  compileHardened(source, hardened);
  await buildExecutable();
}, 120_000);

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Probe {
  readonly name: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
}

const PRELOAD = "globalThis.preloaded = true;";
const PROBES: readonly Probe[] = [
  { name: ".env", files: { ".env": "FROM_DOTENV=1\n" } },
  {
    name: "preload in bunfig.toml",
    files: { "bunfig.toml": 'preload = ["./preload.ts"]\n', "preload.ts": PRELOAD },
  },
  {
    name: "BUN_BE_BUN",
    env: { BUN_BE_BUN: "1" },
    args: ["./other.ts"],
    files: { "other.ts": "console.log('{}')" },
  },
  {
    name: "BUN_OPTIONS with --preload",
    env: { BUN_OPTIONS: "--preload ./preload.ts" },
    files: { "preload.ts": PRELOAD },
  },
  {
    name: "BUN_OPTIONS with --config",
    env: { BUN_OPTIONS: "--config=./other.toml" },
    files: { "other.toml": 'preload = ["./preload.ts"]\n', "preload.ts": PRELOAD },
  },
  { name: "BUN_JSC_useJIT", env: { BUN_JSC_useJIT: "0" } },
  { name: "an unknown BUN_JSC_ option", env: { BUN_JSC_noSuchOption: "1" } },
  { name: "JavaScriptCoreUseJIT", env: { JavaScriptCoreUseJIT: "0" } },
];

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `program` in a fresh directory that holds `files`, with nothing but `env` in the environment. */
function run(program: string, { files = {}, env = {}, args = [] }: Omit<Probe, "name">): Outcome {
  const cwd = mkdtempSync(join(scratch, "cwd-"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(cwd, name), text);
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd,
    env: { PATH: "/usr/bin:/bin", ...env },
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

describe("what acts on an ordinary compiled program has no effect on ours", () => {
  const untouched = JSON.stringify(UNTOUCHED);
  test.each(PROBES)("$name", (probe) => {
    expect(run(control, {}).stdout.trim()).toBe(untouched);
    expect(run(control, probe).stdout.trim()).not.toBe(untouched);
    expect(run(hardened, probe)).toEqual({ status: 0, stdout: `${untouched}\n`, stderr: "" });
  });

  test.each([["BUN_INSPECT_CONNECT_TO"], ["BUN_INSPECT"]])("%s", async (name) => {
    expect(await isInspected(control, name)).toBe(true);
    expect(await isInspected(hardened, name)).toBe(false);
  });

  test("code from the current directory", () => {
    const probe = { args: ["./other.ts"], files: { "other.ts": "console.log('other')" } };
    const source = join(scratch, "bin/computed.js");
    writeFileSync(source, "await import(process.argv[2]);");
    compileControl(source, join(scratch, "bin/computed"));
    expect(run(join(scratch, "bin/computed"), probe).stdout).toBe("other\n");
    expect(() => compileHardened(source, join(scratch, "bin/computed"))).toThrow(/computed\.js/);
  });
});

function compileControl(source: string, output: string): void {
  const built = spawnSync(BUN, ["build", "--compile", `--outfile=${output}`, source]);
  expect(built.status).toBe(0);
}

/** Whether `program`, told by variable `name`, connects to a debugger within the second it lives. */
async function isInspected(program: string, name: string): Promise<boolean> {
  const socket = join(mkdtempSync(join(scratch, "inspect-")), "socket");
  const server = createServer((connection) => connection.destroy());
  const inspected = new Promise<boolean>((done) => server.once("connection", () => done(true)));
  await new Promise<void>((done) => server.listen(socket, done));
  const env = { PATH: "/usr/bin:/bin", [name]: `unix://${socket}` };
  const child = spawn(program, ["wait"], { env, stdio: "ignore" });
  const ended = new Promise<boolean>((done) => child.once("close", () => done(false)));
  const result = await Promise.race([inspected, ended]);
  child.kill("SIGKILL");
  await ended;
  server.close();
  return result;
}

describe("the search for BUN_JSC_ variables in arm64 code", () => {
  // ldrb w10, [x9, #index]; cmp w10, #byte; b.ne …: as in the arm64 build of Bun 1.4.5.
  const comparisons = [...Buffer.from("BUN_JSC_")].flatMap((byte, index) => [
    0x3940012a + (index << 10),
    0x7100015f + (byte << 10),
    0x54ffff01 - index * 0x60,
  ]);
  const encode = (words: readonly number[]) => Buffer.from(new Uint32Array(words).buffer);

  test("is found and made to fail at its first jump", () => {
    const code = encode([0xf9400129, ...comparisons, 0x91002120]);
    expect(disableJscPrefix(code, MACHINE.arm64)).toBe(1);
    const patched = [...comparisons];
    patched[2] = 0x54ffff0e; // b.al
    expect(code).toEqual(encode([0xf9400129, ...patched, 0x91002120]));
  });

  test("is not seen in other comparisons", () => {
    const other = comparisons.with(4, comparisons[4]! + (1 << 10));
    expect(disableJscPrefix(encode(other), MACHINE.arm64)).toBe(0);
    expect(() => disableJscPrefix(encode(comparisons), 8)).toThrow(/ELF machine 8/);
  });
});

describe("dist/bootc", () => {
  const everything: Omit<Probe, "name"> = {
    files: Object.assign({}, ...PROBES.map((probe) => probe.files ?? {})),
    env: {
      ...Object.assign({}, ...PROBES.map((probe) => probe.env ?? {})),
      NODE_OPTIONS: "--require ./preload.ts --import ./preload.ts",
      NODE_CHANNEL_FD: "1",
      BUN_INSPECT: "1",
      BUN_BYTECODE_ORDER_OUT: "./written-by-bun",
      BUN_DESTRUCT_VM_ON_EXIT: "1",
      BUN_ENABLE_CRASH_REPORTING: "1",
    },
  };

  test.each([
    ["bootc", ["--help"]],
    ["bootc", ["--version"]],
    ["prepare-root", ["--help"]],
  ])("%s %j does the same whatever surrounds it", (name, args) => {
    const program = join(scratch, "bin", name);
    if (!existsSync(program)) symlinkSync(EXECUTABLE, program);
    const clean = run(program, { args });
    expect(clean).toMatchObject({ status: 0, stderr: "" });
    expect(clean.stdout.length).toBeGreaterThan(10);
    expect(run(program, { ...everything, args })).toEqual(clean);
  });

  test("the name of a symbolic or hard link picks the program", () => {
    const bootc = run(EXECUTABLE, { args: ["--help"] }).stdout;
    const prepareRoot = run(EXECUTABLE, { args: ["internals", "prepare-root", "--help"] }).stdout;
    expect(prepareRoot).not.toBe(bootc);
    const directory = mkdtempSync(`${EXECUTABLE}-names-`);
    try {
      for (const name of ["prepare-root", "initramfs-setup"]) {
        symlinkSync(EXECUTABLE, join(directory, name));
        expect(run(join(directory, name), { args: ["--help"] }).stdout).toBe(prepareRoot);
        rmSync(join(directory, name));
        linkSync(EXECUTABLE, join(directory, name));
        expect(run(join(directory, name), { args: ["--help"] }).stdout).toBe(prepareRoot);
      }
      linkSync(EXECUTABLE, join(directory, "another-name"));
      expect(run(join(directory, "another-name"), { args: ["--help"] }).stdout).toBe(bootc);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  // Bun sets O_NONBLOCK where process.stdout is touched, and whoever shares the pipe loses output.
  test.each([
    ["bootc", ["status"]],
    ["bootc", ["--help"]],
    ["bootc", ["nonsense"]],
    ["prepare-root", ["--help"]],
    ["prepare-root", ["--nonsense"]],
  ])("%s %j leaves a shared pipe blocking", (argv0, args) => {
    const path = join(mkdtempSync(join(scratch, "pipe-")), "pipe");
    spawnSync("mkfifo", [path]);
    const pipe = openSync(path, constants.O_RDWR);
    try {
      spawnSync(EXECUTABLE, args, { argv0, stdio: ["ignore", pipe, pipe] });
      const info = readFileSync(`/proc/self/fdinfo/${pipe}`, "utf8");
      const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)![1]!, 8);
      expect(flags & constants.O_NONBLOCK).toBe(0);
      expect(readSync(pipe, Buffer.alloc(1 << 16))).toBeGreaterThan(10);
    } finally {
      closeSync(pipe);
    }
  });

  test("leaves nothing in TMPDIR, HOME or the current directory", () => {
    const home = mkdtempSync(join(scratch, "home-"));
    const temporary = mkdtempSync(join(scratch, "tmp-"));
    const cwd = mkdtempSync(join(scratch, "cwd-"));
    for (const name of ["bootc", "prepare-root"]) {
      const env = { PATH: "/usr/bin:/bin", HOME: home, TMPDIR: temporary, BUN_TMPDIR: temporary };
      spawnSync(EXECUTABLE, ["--help"], { argv0: name, cwd, env });
    }
    expect([home, temporary, cwd].flatMap((path) => readdirSync(path))).toEqual([]);
  });

  test.skipIf(!existsSync("/usr/bin/strip"))("survives strip", () => {
    const stripped = join(scratch, "bin/stripped");
    copyFileSync(EXECUTABLE, stripped);
    expect(spawnSync("strip", ["-g", "-p", stripped]).status).toBe(0);
    const expected = run(EXECUTABLE, { args: ["--help"] });
    expect(run(stripped, { args: ["--help"] })).toEqual(expected);
    expect(spawnSync("strip", [stripped]).status).toBe(0);
    expect(run(stripped, { args: ["--help"] })).toEqual(expected);
  });
});
