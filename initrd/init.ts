// PID-1 mode: prepare-root is the init of an initramfs that has no systemd.
//
// /proc and /dev are there already (scripts/build/pid1-program.ts: the C library needs both before any
// of this runs). Init must never return: it ends as the real root's init, a shell, or a reboot.

import { describeError, isErrno, StateError } from "../shared/error.ts";
import { FS_MAGIC, MNT, MS, REBOOT } from "../shared/sys/constants.ts";
import {
  mkdiratIfMissing,
  openDirectory,
  readDirectory,
  removeTree,
} from "../shared/sys/directory.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { chroot, mount, umount2 } from "../shared/sys/mount.ts";
import { execve, reboot, sync } from "../shared/sys/process.ts";
import { fstatatIfExists, fstatfs } from "../shared/sys/stat.ts";
import { parseBootParameters } from "./boot-parameters.ts";
import { DEFAULT_OPTIONS } from "./options.ts";
import { mountPhysicalRoot } from "./physical-root.ts";
import { prepareRoot, readCmdline } from "./prepare-root.ts";
import { announce, say } from "./report.ts";

const API_MOUNTS = [
  ["proc", "/proc", MS.NOSUID | MS.NODEV | MS.NOEXEC],
  ["sysfs", "/sys", MS.NOSUID | MS.NODEV | MS.NOEXEC],
  ["devtmpfs", "/dev", MS.NOSUID],
  ["tmpfs", "/run", MS.NOSUID | MS.NODEV],
] as const;
const DEFAULT_INITS = ["/sbin/init", "/usr/lib/systemd/systemd", "/bin/sh"];
const RAMFS_MAGIC = 0x858458f6;
/** Time to read the refusal on a console before the machine starts again. */
const REBOOT_DELAY_MS = 5000;

/** `argv`: the words the kernel passes on to init. */
export function runAsInit(argv: readonly string[]): never {
  let shellWanted = false;
  try {
    mountApi();
    const parameters = parseBootParameters(readCmdline());
    ({ shellWanted } = parameters);
    const { sysroot } = DEFAULT_OPTIONS;
    mkdiratIfMissing(null, sysroot, 0o755);
    if (fstatatIfExists(null, sysroot)?.isMountRoot !== true) {
      mountPhysicalRoot(parameters, sysroot);
    }
    announce(
      prepareRoot(DEFAULT_OPTIONS, { early: true, isInit: true }),
      DEFAULT_OPTIONS.run,
      true,
    );
    switchRoot(sysroot, parameters.init, argv);
  } catch (error) {
    say("crit", `refused: ${describeError(error)}`, true);
    giveUp(shellWanted);
  }
}

function mountApi(): void {
  for (const [type, path, flags] of API_MOUNTS) {
    mkdiratIfMissing(null, path, 0o755);
    if (fstatatIfExists(null, path)?.isMountRoot === true) continue;
    mount(type, path, type, flags, null);
  }
}

/** As switch_root(8): the API mounts move along, the initramfs is emptied, init takes over. */
function switchRoot(newRoot: string, init: string | null, argv: readonly string[]): never {
  using initramfs = openDirectory(null, "/");
  moveApiMounts(newRoot);
  process.chdir(newRoot);
  mount(newRoot, "/", null, MS.MOVE, null);
  chroot(".");
  process.chdir("/");
  emptyInitramfs(initramfs);
  return startInit(init === null ? DEFAULT_INITS : [init], argv);
}

/** The first of `candidates` that exists becomes this process. */
export function startInit(candidates: readonly string[], argv: readonly string[]): never {
  const environment = { HOME: "/", TERM: process.env["TERM"] ?? "linux" };
  for (const path of candidates) {
    try {
      execve(path, [path, ...argv], environment);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
  throw new StateError("missing", `The image has no "${candidates[0]}" to start`);
}

/** A file system without a place in the new root is let go; init mounts what it needs. */
export function moveApiMounts(newRoot: string): void {
  for (const [, from] of API_MOUNTS) {
    const to = `${newRoot}${from}`;
    if (fstatatIfExists(null, from)?.isMountRoot !== true) continue;
    if (fstatatIfExists(null, to) === null) umount2(from, MNT.DETACH);
    else mount(from, to, null, MS.MOVE, null);
  }
}

/** Gives the memory back. Only ever a RAM file system: a mistake here would empty a disk. */
function emptyInitramfs(initramfs: Fd): void {
  const { type } = fstatfs(initramfs);
  if (type !== RAMFS_MAGIC && type !== FS_MAGIC.TMPFS) return;
  for (const { name } of readDirectory(initramfs)) {
    try {
      removeTree(initramfs, name);
    } catch (error) {
      // Something is mounted there, or will not go: memory is lost, the start goes on.
      if (!isErrno(error, "EBUSY", "ENOTEMPTY", "EPERM", "EACCES")) throw error;
    }
  }
}

/** A machine far away must not wait for ever (docs/decisions/0002-refusal-reboots.md). */
export function giveUp(shellWanted: boolean): never {
  if (shellWanted) {
    say(
      "crit",
      "a shell was asked for (rd.shell, rd.break); leaving it restarts the machine",
      true,
    );
    try {
      execve("/bin/sh", ["sh"], {
        HOME: "/",
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
        TERM: "linux",
      });
    } catch (error) {
      say("crit", `no shell: ${describeError(error)}`, true);
    }
  }
  say("crit", `restarting in ${REBOOT_DELAY_MS / 1000} seconds`, true);
  sync();
  Bun.sleepSync(REBOOT_DELAY_MS);
  return reboot(REBOOT.RESTART);
}
