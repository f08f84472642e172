// Running this program once more as a child, for the parts of it that are bundled apart (prepare-root is,
// and the updater never imports it), and for work in the mounts everybody sees, not in this verb's own.

import { StateError } from "../../shared/error.ts";
import { requireProgram } from "./program.ts";

export interface OwnProgram {
  /** The words that start it. */
  readonly command: readonly string[];
  /** A mount namespace to work in (/proc/<pid>/ns/mnt); null: this process's own. */
  readonly mountNamespace: string | null;
}

/** This program, in the mounts of PID 1. A compiled executable is the program, else Bun runs a script. */
export function hostProgram(): OwnProgram {
  const isCompiled = Bun.main.startsWith("/$bunfs/");
  const command = [process.execPath, ...(isCompiled ? [] : [Bun.main])];
  return { command, mountNamespace: "/proc/1/ns/mnt" };
}

/** Runs it to its end; returns its standard output. StateError with its last words when it fails. */
export function runOwnProgram(
  { command, mountNamespace }: OwnProgram,
  words: readonly string[],
): string {
  return runIn(mountNamespace, [...command, ...words]);
}

/** Runs a command in a mount namespace; null is this process's own. StateError when it fails. */
export function runIn(mountNamespace: string | null, command: readonly string[]): string {
  const enter =
    mountNamespace === null
      ? []
      : [requireProgram("nsenter", "util-linux"), `--mount=${mountNamespace}`, "--"];
  const { exitCode, signalCode, stderr, stdout } = Bun.spawnSync([...enter, ...command], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, LC_ALL: "C" },
  });
  if (exitCode === 0) return stdout.toString();
  const words = stderr.toString().trim().split("\n").at(-1) || `exit code ${exitCode}`;
  const reason = signalCode ? `it was killed by ${signalCode}` : words;
  throw new StateError("command-failed", reason, { program: command[0], exitCode });
}
