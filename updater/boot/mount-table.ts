// The mount table of a process, /proc/self/mountinfo (proc_pid_mountinfo(5)), as plain data.

import { FormatError } from "../../shared/error.ts";

export interface MountPoint {
  /** Absolute, unescaped. */
  readonly path: string;
  readonly fileSystem: string;
  /** A device path, or whatever the file system calls its source ("composefs:<id>"). */
  readonly source: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly readOnly: boolean;
  /** The file system as a whole, whatever single mounts of it say. */
  readonly superReadOnly: boolean;
  /** Its options as the kernel prints them: "rw,verity=require". */
  readonly superOptions: string;
}

/** In mount order: of several mounts on one path, the last one is what a lookup sees. */
export function parseMountTable(text: string): MountPoint[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [before, after] = line.split(" - ");
      const [, , device, , path, options] = before?.split(" ") ?? [];
      const [fileSystem, source, superOptions = ""] = after?.split(" ") ?? [];
      const numbers = /^([0-9]+):([0-9]+)$/.exec(device ?? "");
      if (numbers === null || !path || !options || fileSystem === undefined) {
        throw new FormatError("bad-value", `"${line}" is not a mountinfo line`, {
          format: "mountinfo",
        });
      }
      return {
        path: decodeOctal(path),
        fileSystem,
        source: decodeOctal(source ?? ""),
        devMajor: Number(numbers[1]),
        devMinor: Number(numbers[2]),
        readOnly: options.split(",").includes("ro"),
        superReadOnly: superOptions.split(",").includes("ro"),
        superOptions,
      };
    });
}

/** The mount a lookup of exactly this path ends on, or null. */
export function findMount(mounts: readonly MountPoint[], path: string): MountPoint | null {
  return mounts.findLast((mount) => mount.path === path) ?? null;
}

function decodeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
