// Runs a shell script in a mount namespace of its own: whatever it mounts is gone afterwards.
//
// The script has `step NAME COMMAND…`, which records output and exit code of a command under a name,
// so that a test can look at each.

import { spawnSync } from "node:child_process";

export interface Step {
  /** Standard output and standard error, as they came. */
  readonly output: string;
  readonly code: number;
}

const PRELUDE = `
set -eu
step() {
  name=$1; shift
  printf '\\n@@begin %s\\n' "$name"
  code=0; "$@" 2>&1 || code=$?
  printf '\\n@@end %s\\n' "$code"
}
`;

/** The recorded steps by name. Throws with everything the script said when it fails outside of one. */
export function runInMountNamespace(
  script: string,
  environment: Readonly<Record<string, string>>,
): ReadonlyMap<string, Step> {
  const argv = ["--mount", "--propagation", "private", "--", "sh", "-c", `${PRELUDE}${script}`];
  const result = spawnSync("unshare", argv, {
    env: {
      PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      LC_ALL: "C",
      ...environment,
    },
    encoding: "utf8",
    maxBuffer: 1 << 24,
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(`The script failed with ${result.status}:\n${result.stdout}${result.stderr}`);
  }
  const steps = result.stdout.matchAll(/\n@@begin (\S+)\n(.*?)\n@@end (\d+)\n/gs);
  return new Map(
    [...steps].map(([, name, output, code]) => [
      name!,
      { output: output!.trimEnd(), code: Number(code) },
    ]),
  );
}

export interface MountLine {
  /** Directory of the file system that is mounted. */
  readonly root: string;
  readonly target: string;
  readonly options: string;
  /** Fields like "shared:1". */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
}

/** /proc/self/mountinfo (proc(5)). */
export function parseMountinfo(text: string): MountLine[] {
  return text
    .trim()
    .split("\n")
    .map((line) => line.split(" "))
    .map((fields) => {
      const dash = fields.indexOf("-", 6);
      return {
        root: fields[3]!,
        target: fields[4]!,
        options: fields[5]!,
        propagation: fields.slice(6, dash),
        type: fields[dash + 1]!,
        source: fields[dash + 2]!,
      };
    });
}
