// The program as a process: exit codes, what goes where, and what an unprivileged user may ask.

import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const SCRIPT = `
  const { writeSync } = await import("node:fs");
  const { runBootc } = await import("${import.meta.dirname}/program.ts");
  for (const argv of JSON.parse(process.env.TEST_ARGV)) {
    const code = await runBootc(argv);
    process.exitCode = code;
    if (process.env.TEST_MARKS) for (const fd of [1, 2]) writeSync(fd, "\\0" + code + "\\0");
  }
`;

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
type Argv = readonly string[];
type Stream = number | "pipe";

function spawn(lines: readonly Argv[], marks: string, stdout: Stream, stderr: Stream) {
  return Bun.spawnSync([process.execPath, "-e", SCRIPT], {
    stdin: "ignore",
    stdout,
    stderr,
    // Neither HOME nor a locale: the program needs none.
    env: {
      PATH: process.env["PATH"] ?? "",
      container: "test",
      TEST_ARGV: JSON.stringify(lines),
      TEST_MARKS: marks,
    },
  });
}

function bootc(args: Argv, streams: { stdout?: Stream; stderr?: Stream } = {}): Result {
  const result = spawn([args], "", streams.stdout ?? "pipe", streams.stderr ?? "pipe");
  const { stdout, stderr, exitCode: code } = result;
  return { code, out: stdout?.toString() ?? "", err: stderr?.toString() ?? "" };
}

/** Many command lines in one process, because starting one takes longer than running it. */
function bootcEach(lines: readonly Argv[]): (args: Argv) => Result {
  const { stdout, stderr } = spawn(lines, "1", "pipe", "pipe");
  const outs = (stdout?.toString() ?? "").split("\0");
  const errs = (stderr?.toString() ?? "").split("\0");
  return (args) => {
    const index = lines.indexOf(args) * 2;
    return { code: Number(outs[index + 1]), out: outs[index]!, err: errs[index]! };
  };
}

const ANSWERED = [
  [["--version"], 0, /^bootc \d+\.\d+\.\d+\n$/, /^$/],
  [["--help"], 0, /^Usage: bootc .*composefs-finalize-staged/s, /^$/],
  [["install", "to-filesystem", "--help"], 0, /--source-imgref/, /^$/],
  [
    ["install", "print-configuration", "--all"],
    0,
    /^\{"block":null,"boot-mount-spec":null,.*"stateroot":null\}\n$/,
    /^$/,
  ],
  [
    ["status", "--json"],
    0,
    /^\{"apiVersion":"org\.containers\.bootc\/v1".*"booted":null.*\}$/,
    /^$/,
  ],
  [["status"], 0, /^apiVersion: org\.containers\.bootc\/v1\n/, /^$/],
  [["status", "--format", "humanreadable"], 0, /^System is not deployed via bootc\.\n$/, /^$/],
  [["internals", "print-json-schema", "--of", "host"], 0, /"HostStatus"/, /^$/],
  [["internals", "print-json-schema", "--of", "progress"], 0, /"ProgressSteps"/, /^$/],
  [[], 2, /^$/, /^Usage: bootc/],
  [["install"], 2, /^$/, /^Usage: bootc install/],
  [
    ["container", "verify", "oci:/no\u001b[2J"],
    2,
    /^$/,
    /^error: [^\u001b]*\/no\\u001b\[2J[^\u001b]+\n$/,
  ],
  [["switch", "blah://"], 1, /^$/, /^error: [^\u001b]+\n$/],
] as const;
describe("what needs no system", () => {
  const answer = bootcEach(ANSWERED.map(([args]) => args));
  test.each(ANSWERED)("%j: %d", (args, code, out, err) => {
    const result = answer(args);
    expect(result.err).toMatch(err);
    expect(result.out).toMatch(out);
    expect(result.code).toBe(code);
  });
});

describe("a wrong command line: one line, exit code 2", () => {
  const install = ["install", "to-filesystem"];
  const wrong: [Argv, string][] = [
    [["nonsense"], `unknown command 'nonsense'; see "bootc --help"`],
    [["upgrde"], `unknown command 'upgrde' (Did you mean upgrade?); see "bootc --help"`],
    [["--nonsense"], `unknown option '--nonsense'; see "bootc --help"`],
    [["status", "--nonsense"], `unknown option '--nonsense'; see "bootc status --help"`],
    [["internals", "x"], `unknown command 'x'; see "bootc internals --help"`],
    [["internals", "cfs", "--repo", "/x", "--user", "images"], "cannot be used with option"],
    [["internals", "cfs", "--repo", "/x", "init", "--algorithm", "md5"], "Allowed choices are"],
    [["internals", "fsck", "--format", "yaml"], "Allowed choices are humanreadable, json"],
    [["rollback", "now"], `too many arguments for 'rollback'`],
    [["switch"], `missing required argument 'target'; see "bootc switch --help"`],
    [["switch", "--transport"], `'--transport <transport>' argument missing`],
    [["switch", "--transport", "carrier-pigeon", "x"], 'Unknown transport "carrier-pigeon"; known'],
    [["switch", "--transport", "oci", ""], '"" is not an image name'],
    [["switch", "x\ny"], "is not an image name"],
    [["switch", "a\ufffdb"], 'The argument "a\ufffdb" is not valid UTF-8'],
    [["upgrade", "--check", "--apply"], "cannot be used with"],
    [["upgrade", "--from-downloaded", "--download-only"], "cannot be used with"],
    [["upgrade", "--from-downloaded", "--tag", "x"], "cannot be used with"],
    [["upgrade", "--check", "--soft-reboot=auto"], "cannot be used with"],
    [["upgrade", "--download-only", "--soft-reboot=auto"], "cannot be used with"],
    [["upgrade", "--soft-reboot=maybe"], "Allowed choices are required, auto"],
    [["switch", "x", "--mutate-in-place", "--soft-reboot=auto"], "cannot be used with"],
    [["rollback", "--soft-reboot"], "argument missing"],
    [["internals", "prep-soft-reboot", "--reset", "--reboot"], "cannot be used with"],
    [["upgrade", "--tag"], "argument missing"],
    [["switch", "x", "--mutate-in-place", "--apply"], "cannot be used with"],
    [["switch", "x", "--mutate-in-place", "--retain"], "cannot be used with"],
    [["internals", "print-json-schema", "--of", "nothing"], "Allowed choices are host, progress"],
    [["upgrade", "--format", "json"], "--format json is for --check"],
    [["upgrade", "--check", "--format", "yaml"], "Allowed choices are humanreadable, json"],
    [["upgrade", "--progress-fd", "x"], "It is not a number."],
    [["status", "--format", "xml"], "Allowed choices are humanreadable, yaml, json"],
    [["status", "--format-version", "2"], "Unsupported format version: 2"],
    [[...install, "/mnt"], `'--source-imgref <reference>' not specified`],
    [[...install, "/mnt", "--source-imgref", "x"], 'is not of the form "transport:image"'],
    [[...install, "/mnt", "--source-imgref", "docker:x"], 'should begin with "docker://"'],
    [[...install, "/mnt", "--source-imgref", "pigeon:x"], 'Unknown transport "pigeon"'],
    [[...install, "", "--source-imgref", "oci:/x"], "The path to install to is empty"],
    [
      [...install, "/mnt", "--source-imgref", "oci:/x", "--target-transport", "oci"],
      "--target-transport needs --target-imgref",
    ],
  ];
  const answer = bootcEach(wrong.map(([args]) => args));
  test.each(wrong)("%j", (args, message) => {
    const result = answer(args);
    expect(result.err).toMatch(/^error: [^\n]*\n$/);
    expect(result.err).toContain(message);
    expect(result.out).toBe("");
    expect(result.code).toBe(2);
  });
});

describe("in a container", () => {
  const refused: [Argv][] = [
    [["upgrade"]],
    [["rollback"]],
    [["switch", "--transport", "oci", "/x"]],
    [["composefs-finalize-staged"]],
    [["internals", "composefs-gc", "--dry-run"]],
    [["internals", "fsck"]],
  ];
  const answer = bootcEach(refused.map(([args]) => args));
  test.each(refused)("%j is refused", (args) => {
    expect(answer(args)).toEqual({
      code: 1,
      out: "",
      err: "error: Detected container; this command requires a booted host system\n",
    });
  });
});

describe("standard streams", () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "streams-"));
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  function withFile<T>(path: string, flags: number, work: (fd: number) => T): T {
    const fd = openSync(path, flags);
    try {
      return work(fd);
    } finally {
      closeSync(fd);
    }
  }

  test.each([[["status", "--json"]], [["--help"]], [["--version"]]])(
    "a full disk behind stdout: %j",
    (args) => {
      const result = withFile("/dev/full", constants.O_WRONLY, (stdout) => bootc(args, { stdout }));
      expect(result.err).toMatch(/^error: Cannot write to standard output: ENOSPC[^\n]*\n$/);
      expect(result.code).toBe(1);
    },
  );

  test.each([
    [["status"], 0],
    [["upgrade"], 1],
    [["nonsense"], 2],
  ])("a full disk behind stderr changes nothing: %j", (args, code) => {
    const result = withFile("/dev/full", constants.O_WRONLY, (stderr) => bootc(args, { stderr }));
    expect(result.code).toBe(code);
  });

  test("a reader that went away is no failure", () => {
    const args = ["internals", "print-json-schema", "--of", "host"];
    const path = join(scratch, "nobody");
    execFileSync("mkfifo", [path]);
    // Opened for both first: a writer alone would wait for a reader.
    const stdout = withFile(path, constants.O_RDWR, () => openSync(path, constants.O_WRONLY));
    try {
      expect(bootc(args, { stdout })).toMatchObject({ code: 0, err: "" });
    } finally {
      closeSync(stdout);
    }
  });

  // Whoever shares the descriptor (a shell, a log collector) would lose output to EAGAIN.
  describe("a shared pipe stays as it was", () => {
    function isNonBlocking(fd: number): boolean {
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
      const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)![1]!, 8);
      return (flags & constants.O_NONBLOCK) !== 0;
    }

    test.each([
      [["status"], 0],
      [["--help"], 0],
      [["help", "install"], 0],
      [[], 2],
      [["nonsense"], 2],
      [["upgrade"], 1],
    ])("%j", (args, code) => {
      const path = join(scratch, `pipe-${code}-${args.join("")}`);
      execFileSync("mkfifo", [path]);
      withFile(path, constants.O_RDWR, (fd) => {
        expect(bootc(args, { stdout: fd, stderr: fd }).code).toBe(code);
        expect(isNonBlocking(fd)).toBe(false);
        expect(readSync(fd, Buffer.alloc(1 << 16))).toBeGreaterThan(10);
      });
    });

    test("one that is non-blocking is recognised", () => {
      const path = join(scratch, "non-blocking");
      execFileSync("mkfifo", [path]);
      withFile(path, constants.O_RDWR | constants.O_NONBLOCK, (fd) => {
        expect(isNonBlocking(fd)).toBe(true);
        expect(bootc(["status"], { stdout: fd }).code).toBe(0);
      });
    });
  });
});
