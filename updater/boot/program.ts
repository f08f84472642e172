// Running the programs that do their job best (bootctl, systemctl, blkid, fstrim …).
//
// A program that is not installed is an error that names its package; one that fails is an error that
// carries the last lines it wrote to stderr. Arguments never pass through a shell.

import { StateError, UnsupportedError } from "../../shared/error.ts";

export interface ProgramOptions {
  /** Debian's name of the package that has the program, for the error when it is missing. */
  readonly package: string;
  /** Added to the environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Where it runs; this process's own when left out. */
  readonly directory?: string;
  /** Exit codes that are fine beside 0. */
  readonly accept?: readonly number[];
}

/** Runs the program to its end and returns what it wrote to stdout. */
export function runProgram(name: string, args: readonly string[], options: ProgramOptions): string {
  const path = requireProgram(name, options.package);
  const result = Bun.spawnSync([path, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, LC_ALL: "C", ...options.environment },
    ...(options.directory === undefined ? {} : { cwd: options.directory }),
  });
  if (result.exitCode !== 0 && !options.accept?.includes(result.exitCode)) {
    const reason = result.stderr.toString().trim().split("\n").slice(-3).join("; ");
    const how = result.signalCode ? `was killed by ${result.signalCode}` : `failed`;
    throw new StateError("command-failed", `"${name} ${args.join(" ")}" ${how}: ${reason}`, {
      program: name,
      exitCode: result.exitCode,
    });
  }
  return result.stdout.toString();
}

/** Its path; UnsupportedError("missing-program") that names Debian's `packageName`. */
export function requireProgram(name: string, packageName: string): string {
  const path = Bun.which(name, { PATH: searchPath() });
  if (path !== null) return path;
  throw new UnsupportedError(
    "missing-program",
    `The program "${name}" is needed; install the package "${packageName}"`,
    { program: name },
  );
}

export function hasProgram(name: string): boolean {
  return Bun.which(name, { PATH: searchPath() }) !== null;
}

/** Units and sudo often leave the sbin directories out. */
function searchPath(): string {
  return `${process.env["PATH"] ?? ""}:/usr/sbin:/usr/bin:/sbin:/bin`;
}
