// Command lines of systemd's `ukify`, which makes unified kernels and addons (ukify(1)), and running it.

import { requireProgram, runProgram } from "../boot/program.ts";

const PACKAGE = "systemd-ukify";

export interface UkifyInput {
  readonly linux: string;
  /** In this order they become one. */
  readonly initrds: readonly string[];
  readonly release: string;
  /** Null: without a section for it, the kernel takes the arguments of its boot entry. */
  readonly cmdline: string | null;
  /** Path of the image's os-release. */
  readonly osRelease: string;
  /** What is given on besides, e.g. "--output". */
  readonly more: readonly string[];
}

/** The order is bootc's (bootc.md 10.4). */
export function ukifyArguments(input: UkifyInput): readonly string[] {
  const { linux, initrds, release, cmdline, osRelease, more } = input;
  return [
    "build",
    ...["--linux", linux],
    ...initrds.flatMap((initrd) => ["--initrd", initrd]),
    ...["--uname", release],
    ...(cmdline === null ? [] : ["--cmdline", cmdline]),
    ...["--os-release", `@${osRelease}`],
    ...more,
  ];
}

/** UnsupportedError when it is not installed. */
export function requireUkify(): void {
  requireProgram("ukify", PACKAGE);
}

/** What it prints. `directory`: where relative paths start. */
export function runUkify(args: readonly string[], directory?: string): string {
  const cwd = directory === undefined ? {} : { directory };
  return runProgram("ukify", args, { package: PACKAGE, ...cwd });
}
