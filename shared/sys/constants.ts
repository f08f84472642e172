// Kernel constants, named as in the headers without their prefix. Compared with the machine's headers
// in headers.test.ts. Only the open flags differ between x86-64 and arm64.

export const OPEN_FLAGS = {
  x64: { DIRECTORY: 0o200000, NOFOLLOW: 0o400000, DIRECT: 0o40000 },
  arm64: { DIRECTORY: 0o40000, NOFOLLOW: 0o100000, DIRECT: 0o200000 },
} as const;
const own = process.arch === "arm64" ? OPEN_FLAGS.arm64 : OPEN_FLAGS.x64;

/** open(2) flags; `openat` adds CLOEXEC itself. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  NOATIME: 0o1000000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  DIRECTORY: own.DIRECTORY,
  NOFOLLOW: own.NOFOLLOW,
  TMPFILE: 0o20000000 | own.DIRECTORY,
} as const;

export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  NO_AUTOMOUNT: 0x800,
  EMPTY_PATH: 0x1000,
  RECURSIVE: 0x8000,
} as const;

/** mount(2) flags. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  REMOUNT: 32,
  BIND: 4096,
  MOVE: 8192,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
} as const;

/** umount2(2) flags. */
export const MNT = { FORCE: 1, DETACH: 2, EXPIRE: 4 } as const;

/** fsmount(2) and mount_setattr(2) attributes. */
export const MOUNT_ATTR = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  NOATIME: 0x10,
  NODIRATIME: 0x80,
  NOSYMFOLLOW: 0x200000,
} as const;

export const OPEN_TREE = { CLONE: 1, CLOEXEC: O.CLOEXEC } as const;
export const FSOPEN_CLOEXEC = 1;
export const FSMOUNT_CLOEXEC = 1;
export const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, SET_FD: 5, CMD_CREATE: 6 } as const;
export const MOVE_MOUNT = { F_EMPTY_PATH: 4, T_EMPTY_PATH: 0x40 } as const;

export const RENAME = { NOREPLACE: 1, EXCHANGE: 2 } as const;
export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;
export const CLONE_NEWNS = 0x20000;

/** ioctl(2) requests; the size bits are part of the number. */
export const IOCTL = {
  FS_IOC_ENABLE_VERITY: 0x40806685,
  FS_IOC_MEASURE_VERITY: 0xc0046686,
  FS_IOC_GETFLAGS: 0x80086601,
  FS_IOC_SETFLAGS: 0x40086602,
  FICLONE: 0x40049409,
  LOOP_CTL_GET_FREE: 0x4c82,
  LOOP_CONFIGURE: 0x4c0a,
  LOOP_CLR_FD: 0x4c01,
} as const;
export const LO_FLAGS = { READ_ONLY: 1, AUTOCLEAR: 4 } as const;

/** reboot(2) commands. */
export const REBOOT = { RESTART: 0x01234567, HALT: 0xcdef0123, POWER_OFF: 0x4321fedc } as const;

/** File system types as in `FsStat.type`. */
export const FS_MAGIC = {
  EROFS: 0xe0f5e1e2,
  EXT4: 0xef53,
  OVERLAY: 0x794c7630,
  TMPFS: 0x01021994,
  VFAT: 0x4d44,
} as const;

export const EINTR = 4;
