// Command lines of systemd's `ukify`, which makes unified kernels and addons (ukify(1)), and running it.
//
// ukify takes what begins with "@" for the name of a file, and what begins with "-" for an option: whatever an image says
// reaches it as a file, or is checked.

import { FormatError } from "../../shared/error.ts";
import { requireProgram, runProgram } from "../boot/program.ts";

const PACKAGE = "systemd-ukify";

export interface UkifyInput {
  readonly linux: string;
  /** In this order they become one. */
  readonly initrds: readonly string[];
  readonly release: string;
  /** "@" and the path of a file with it. Null: without a section for it, the kernel takes the arguments of its entry. */
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

/** The name of a kernel, which also becomes that of a file. FormatError. */
export function checkRelease(release: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._+~@:-]{0,127}$/.test(release)) return release;
  throw new FormatError(
    "bad-value",
    `"${release}" is no name of a kernel release; rename its directory in /usr/lib/modules`,
  );
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
