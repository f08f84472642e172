// The last act of an installation: everything is on the disk, and the file system is left as a power
// cut would best like it (bootc.md 9.8): trimmed, read-only, its journal emptied by a freeze.

import { MS } from "../../shared/sys/constants.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { syncfs } from "../../shared/sys/file.ts";
import { mount } from "../../shared/sys/mount.ts";
import { hasProgram, runProgram } from "../boot/program.ts";

/** For disks that stay mounted for more work. */
export function syncFileSystem(path: string): void {
  using fd = openDirectory(null, path);
  syncfs(fd);
}

/** The file system cannot be written to afterwards. */
export function settleFileSystem(path: string): void {
  syncFileSystem(path);
  // Trimming only helps the disk; one that cannot is as good.
  if (hasProgram("fstrim")) runProgram("fstrim", ["--quiet-unsupported", path], UTIL_LINUX);
  mount(null, path, null, MS.REMOUNT | MS.RDONLY, null);
  runProgram("fsfreeze", ["--freeze", path], UTIL_LINUX);
  runProgram("fsfreeze", ["--unfreeze", path], UTIL_LINUX);
}
const UTIL_LINUX = { package: "util-linux" };
