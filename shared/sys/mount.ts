// Mounting: the file-descriptor mount API (Linux 5.2; mount_setattr 5.12) and the old calls beside it.
//
// unshareMounts acts on the calling *thread* only, not on the process; Bun's
// thread pool stays in the old namespace, so only synchronous file access may follow unshareMounts.

import { struct, u64 } from "../bytes/layout.ts";
import { UnsupportedError } from "../error.ts";
import {
  AT,
  CLONE_NEWNS,
  FSCONFIG,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  MOVE_MOUNT,
  MS,
  OPEN_TREE,
} from "./constants.ts";
import { ERRNO, syscallError } from "./errno.ts";
import { type Dir, dirNumber, Fd, type Path } from "./fd.ts";
import { attempt, attemptSyscall } from "./libc.ts";
import { checkFd, checkPath, cstring } from "./path.ts";

const EMPTY = cstring("");

/** fsopen(2): a configuration context for a new superblock of `type`; ENODEV for an unknown type. */
export function fsopen(type: string): Fd {
  const result = attemptSyscall("fsopen", cstring(type), FSOPEN_CLOEXEC);
  if (result === -ERRNO.get("ENOSYS")!) {
    throw new UnsupportedError("no-mount-api", "This kernel has no fsopen (Linux 5.2 is needed)");
  }
  return new Fd(checkPath("fsopen", result, null, type));
}

export function fsconfigString(fd: Fd, key: string, value: string): void {
  configure(fd, FSCONFIG.SET_STRING, `${key}=${value}`, cstring(key), cstring(value), 0);
}

export function fsconfigFlag(fd: Fd, key: string): void {
  configure(fd, FSCONFIG.SET_FLAG, key, cstring(key), null, 0);
}

export function fsconfigFd(fd: Fd, key: string, value: Fd): void {
  configure(fd, FSCONFIG.SET_FD, `${key}=(fd)`, cstring(key), null, value.number);
}

/** Creates the superblock; the errors of a bad image or option come here. */
export function fsconfigCreate(fd: Fd): void {
  configure(fd, FSCONFIG.CMD_CREATE, "create", null, null, 0);
}

function configure(
  fd: Fd,
  command: number,
  what: string,
  key: Uint8Array | null,
  value: Uint8Array | null,
  aux: number,
): void {
  const result = attemptSyscall("fsconfig", fd.number, command, key, value, aux);
  if (result < 0) throw syscallError("fsconfig", -result, { path: what }, readMessages(fd));
}

/** What the kernel has to say about the context: lines as "e erofs: cannot find superblock". */
function readMessages(fd: Fd): string {
  const line = new Uint8Array(4096);
  const lines: string[] = [];
  for (;;) {
    const length = attempt("read", fd.number, line, line.length);
    if (length <= 0) return lines.join("; ");
    const text = Buffer.from(line.subarray(0, length)).toString("utf8").trim();
    lines.push(text.replace(/^[ewi] /, ""));
  }
}

/** fsmount(2): a detached mount of the created superblock; `attributes` from MOUNT_ATTR. */
export function fsmount(fd: Fd, attributes: number): Fd {
  const result = attemptSyscall("fsmount", fd.number, FSMOUNT_CLOEXEC, attributes);
  if (result < 0) throw syscallError("fsmount", -result, {}, readMessages(fd));
  return new Fd(result);
}

/**
 * open_tree(2). With `clone` the result is a detached copy of the mount (with `recursive` also of those
 * below), a bind mount waiting for `moveMount`; without, it is as an O.PATH descriptor. An empty path
 * means `dir` itself. A symlink at the end is followed.
 */
export function openTree(
  dir: Dir,
  path: Path,
  options: { readonly clone?: boolean; readonly recursive?: boolean } = {},
): Fd {
  const flags =
    OPEN_TREE.CLOEXEC |
    (options.clone === true ? OPEN_TREE.CLONE : 0) |
    (options.recursive === true ? AT.RECURSIVE : 0) |
    (path.length === 0 ? AT.EMPTY_PATH : 0);
  const result = attemptSyscall("open_tree", dirNumber(dir), cstring(path), flags);
  return new Fd(checkPath("open_tree", result, dir, path));
}

/** move_mount(2): attaches the mount `from` at a path, or onto `toDir` itself when the path is "". */
export function moveMount(from: Fd, toDir: Dir, toPath: Path): void {
  const flags = MOVE_MOUNT.F_EMPTY_PATH | (toPath.length === 0 ? MOVE_MOUNT.T_EMPTY_PATH : 0);
  const result = attemptSyscall(
    "move_mount",
    from.number,
    EMPTY,
    dirNumber(toDir),
    cstring(toPath),
    flags,
  );
  checkPath("move_mount", result, toDir, toPath);
}

export const MountAttr = struct("mount_attr", 32, {
  set: u64,
  clear: u64,

  propagation: u64,
  usernsFd: u64,
});

/** mount_setattr(2) on an open mount; `set` and `clear` from MOUNT_ATTR, `propagation` as MS.PRIVATE. */
export function mountSetattr(
  fd: Fd,
  options: {
    readonly set?: number;
    readonly clear?: number;
    readonly propagation?: number;
    readonly recursive?: boolean;
  },
): void {
  const attr = MountAttr.encode({
    set: BigInt(options.set ?? 0),
    clear: BigInt(options.clear ?? 0),
    propagation: BigInt(options.propagation ?? 0),
  });
  const flags = AT.EMPTY_PATH | (options.recursive === true ? AT.RECURSIVE : 0);
  const result = attemptSyscall("mount_setattr", fd.number, EMPTY, flags, attr, attr.length);
  checkFd("mount_setattr", result, fd);
}

const MOUNT_ATTR_IDMAP = 0x100000n;

/** Gives a detached mount the ID mapping of a user namespace (an open /proc/PID/ns/user). */
export function setIdMapping(mount: Fd, userns: Fd): void {
  const attr = MountAttr.encode({ set: MOUNT_ATTR_IDMAP, usernsFd: BigInt(userns.number) });
  const result = attemptSyscall(
    "mount_setattr",
    mount.number,
    EMPTY,
    AT.EMPTY_PATH,
    attr,
    attr.length,
  );
  checkFd("mount_setattr", result, mount);
}

/** mount(2), for what the new calls cannot do (remount, move, propagation). */
export function mount(
  source: Path | null,
  target: Path,
  type: string | null,
  flags: number,
  data: string | null,
): void {
  const optional = (text: Path | null) => (text === null ? null : cstring(text));
  const result = attempt(
    "mount",
    optional(source),
    cstring(target),
    optional(type),
    flags,
    optional(data),
  );
  checkPath("mount", result, null, target);
}

/** umount2(2); `flags` from MNT. */
export function umount2(target: Path, flags: number): void {
  checkPath("umount2", attempt("umount2", cstring(target), flags), null, target);
}

/**
 * A private copy of the mount table for this thread: nothing done afterwards shows outside. Only
 * synchronous file access sees it (see the header).
 */
export function unshareMounts(): void {
  checkPath("unshare", attempt("unshare", CLONE_NEWNS), null, "mount namespace");
  mount(null, "/", null, MS.REC | MS.PRIVATE, null);
}

export function chroot(path: Path): void {
  checkPath("chroot", attempt("chroot", cstring(path)), null, path);
}

/** pivot_root(2): `newRoot`, a mount, becomes the root; the old one is mounted on `putOld` below it. */
export function pivotRoot(newRoot: Path, putOld: Path): void {
  const result = attemptSyscall("pivot_root", cstring(newRoot), cstring(putOld));
  checkPath("pivot_root", result, null, newRoot);
}
