// The tables of numbers and structs beside what this machine's kernel headers say.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Struct } from "../bytes/layout.ts";
import { Timespec } from "./attributes.ts";
import * as constants from "./constants.ts";
import { DirentHeader } from "./directory.ts";
import { ERRNO, syscallError } from "./errno.ts";
import { LoopConfig } from "./loop.ts";
import { MountAttr } from "./mount.ts";
import { Rlimit } from "./process.ts";
import { F_LOCK, F_OFD, FlockRange } from "./range-lock.ts";
import { Statfs, Statx } from "./stat.ts";
import { SYSCALL_NUMBERS } from "./syscall-number.ts";
import { FsverityDigest, FsverityEnableArg } from "./verity.ts";

const HEADERS = {
  x64: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
  arm64: "/usr/include/asm-generic/unistd.h",
};

describe("system call numbers", () => {
  for (const arch of ["x64", "arm64"] as const) {
    const header = HEADERS[arch];
    const missing = existsSync(header) ? "" : ` (SKIPPED: no ${header}; install linux-libc-dev)`;
    it.skipIf(missing !== "")(`agree with the headers for ${arch}${missing}`, () => {
      const text = readFileSync(header, "utf8");
      const found = new Map(
        [...text.matchAll(/^#define\s+__NR_(\w+)\s+(\d+)$/gm)].map((m) => [m[1]!, Number(m[2])]),
      );
      for (const [name, number] of Object.entries(SYSCALL_NUMBERS[arch])) {
        expect([name, found.get(name)]).toEqual([name, number]);
      }
    });
  }
});

const compiler = ["/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang"].find(existsSync);
const noCompiler =
  compiler !== undefined && existsSync("/usr/include/linux/fsverity.h")
    ? ""
    : " (SKIPPED: no C compiler or kernel headers; install gcc and libc6-dev)";

const INCLUDES = [
  "errno.h",
  "fcntl.h",
  "signal.h",
  "sched.h",
  "stddef.h",
  "stdio.h",
  "string.h",
  "dirent.h",
  "sys/file.h",
  "sys/mount.h",
  "sys/reboot.h",
  "sys/resource.h",
  "sys/stat.h",
  "sys/vfs.h",
  "linux/fs.h",
  "linux/fsverity.h",
  "linux/loop.h",
  "linux/magic.h",
];

/** Evaluates C expressions with the machine's compiler. */
function evaluate(expressions: readonly string[]): bigint[] {
  const directory = mkdtempSync(join(tmpdir(), "sys-headers-"));
  try {
    const lines = expressions.map((text) => `printf("%lld\\n", (long long)(${text}));`);
    const source = `#define _GNU_SOURCE\n${INCLUDES.map((name) => `#include <${name}>`).join("\n")}
#ifndef EROFS_SUPER_MAGIC_V1
#define EROFS_SUPER_MAGIC_V1 0xE0F5E1E2
#endif
int main(void) { ${lines.join("\n")} return 0; }\n`;
    writeFileSync(join(directory, "c.c"), source);
    execFileSync(compiler!, ["-o", join(directory, "c"), join(directory, "c.c")]);
    const output = execFileSync(join(directory, "c"), { encoding: "utf8" });
    return output.trim().split("\n").map(BigInt);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function compare(table: Readonly<Record<string, number>>): void {
  const found = evaluate(Object.keys(table));
  const mine = Object.values(table).map((value) => BigInt(value));
  const names = Object.keys(table);
  expect(names.map((name, i) => [name, found[i]])).toEqual(names.map((name, i) => [name, mine[i]]));
}

function prefixed(prefix: string, table: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(table).map(([name, n]) => [`${prefix}${name}`, n]));
}

describe("constants", () => {
  it.skipIf(noCompiler !== "")(`agree with the headers${noCompiler}`, () => {
    const { O, AT, MS, MNT, MOUNT_ATTR, RENAME, LOCK, IOCTL, LO_FLAGS } = constants;
    const { FS_MAGIC, MOVE_MOUNT, OPEN_TREE, REBOOT, FSCONFIG } = constants;
    compare({
      ...prefixed("O_", O),
      ...prefixed("AT_", AT),
      ...prefixed("MS_", MS),
      ...prefixed("MNT_", MNT),
      ...prefixed("MOUNT_ATTR_", MOUNT_ATTR),
      ...prefixed("RENAME_", RENAME),
      ...prefixed("LOCK_", LOCK),
      ...prefixed("", IOCTL),
      ...prefixed("LO_FLAGS_", LO_FLAGS),
      ...prefixed("MOVE_MOUNT_", MOVE_MOUNT),
      ...prefixed("OPEN_TREE_", OPEN_TREE),
      FSCONFIG_SET_FLAG: FSCONFIG.SET_FLAG,
      FSCONFIG_SET_STRING: FSCONFIG.SET_STRING,
      FSCONFIG_SET_FD: FSCONFIG.SET_FD,
      FSCONFIG_CMD_CREATE: FSCONFIG.CMD_CREATE,
      FSOPEN_CLOEXEC: constants.FSOPEN_CLOEXEC,
      FSMOUNT_CLOEXEC: constants.FSMOUNT_CLOEXEC,
      CLONE_NEWNS: constants.CLONE_NEWNS,
      EINTR: constants.EINTR,
      ...prefixed("F_OFD_", F_OFD),
      ...prefixed("F_", F_LOCK),
      EROFS_SUPER_MAGIC_V1: FS_MAGIC.EROFS,
      EXT4_SUPER_MAGIC: FS_MAGIC.EXT4,
      OVERLAYFS_SUPER_MAGIC: FS_MAGIC.OVERLAY,
      TMPFS_MAGIC: FS_MAGIC.TMPFS,
      MSDOS_SUPER_MAGIC: FS_MAGIC.VFAT,
      "(unsigned)RB_AUTOBOOT": REBOOT.RESTART,
      "(unsigned)RB_HALT_SYSTEM": REBOOT.HALT,
      "(unsigned)RB_POWER_OFF": REBOOT.POWER_OFF,
    });
  });

  it("differ between the machines where the kernel says so", () => {
    // arch/arm64/include/uapi/asm/fcntl.h; there is no arm64 machine to ask.
    expect(constants.OPEN_FLAGS.arm64).toEqual({
      DIRECTORY: 0o40000,
      NOFOLLOW: 0o100000,
      DIRECT: 0o200000,
    });
  });
});

describe("structs", () => {
  it.skipIf(noCompiler !== "")(`have the kernel's sizes and offsets${noCompiler}`, () => {
    const rows: Record<string, number> = {
      "sizeof(struct sigaction)": 152,
      SIGPIPE: 13,
      SIGXFSZ: 25,
      RLIMIT_NOFILE: 7,
      UTIME_OMIT: 0x3ffffffe,
      STATX_ATTR_MOUNT_ROOT: 0x2000,
      STATX_BASIC_STATS: 0x7ff,
      "offsetof(struct fsverity_digest, digest)": FsverityDigest.offsets.digest,
      "offsetof(struct dirent64, d_name)": DirentHeader.sizeBytes,
    };
    const add = (
      type: string,
      // biome-ignore lint/suspicious/noExplicitAny: structs of any shape
      struct: Struct<any>,
      fields: Record<string, string>,
      size = true,
    ) => {
      if (size) rows[`sizeof(struct ${type})`] = struct.sizeBytes;
      for (const [mine, theirs] of Object.entries(fields)) {
        rows[`offsetof(struct ${type}, ${theirs})`] = struct.offsets[mine]!;
      }
    };
    add("statx", Statx, {
      attributes: "stx_attributes",
      nlink: "stx_nlink",
      uid: "stx_uid",
      gid: "stx_gid",
      mode: "stx_mode",
      ino: "stx_ino",
      size: "stx_size",
      mtimeSec: "stx_mtime.tv_sec",
      mtimeNsec: "stx_mtime.tv_nsec",
      rdevMajor: "stx_rdev_major",
      rdevMinor: "stx_rdev_minor",
      devMajor: "stx_dev_major",
      devMinor: "stx_dev_minor",
    });
    add("statfs", Statfs, {
      type: "f_type",
      blockSize: "f_bsize",
      blocks: "f_blocks",
      blocksFree: "f_bfree",
      blocksAvailable: "f_bavail",
      files: "f_files",
      filesFree: "f_ffree",
      fragmentSize: "f_frsize",
      flags: "f_flags",
    });
    add("dirent64", DirentHeader, { recordLength: "d_reclen", type: "d_type" }, false);
    add("mount_attr", MountAttr, { set: "attr_set", clear: "attr_clr", usernsFd: "userns_fd" });
    add("timespec", Timespec, { sec: "tv_sec", nsec: "tv_nsec" });
    add("flock", FlockRange, {
      type: "l_type",
      whence: "l_whence",
      start: "l_start",
      length: "l_len",
      pid: "l_pid",
    });
    add("rlimit", Rlimit, { soft: "rlim_cur", hard: "rlim_max" });
    add("loop_config", LoopConfig, { fd: "fd", blockSize: "block_size", flags: "info.lo_flags" });
    add("fsverity_enable_arg", FsverityEnableArg, {
      hashAlgorithm: "hash_algorithm",
      blockSize: "block_size",
      saltSize: "salt_size",
      saltPtr: "salt_ptr",
      sigSize: "sig_size",
      sigPtr: "sig_ptr",
    });
    add("fsverity_digest", FsverityDigest, { sizeBytes: "digest_size" }, false);
    compare(rows);
  });
});

describe("errno table", () => {
  it.skipIf(noCompiler !== "")(`agrees with the headers${noCompiler}`, () => {
    compare(Object.fromEntries(ERRNO));
  });

  const perl = existsSync("/usr/bin/perl") ? "" : " (SKIPPED: no perl)";
  it.skipIf(perl !== "")(`has the texts of strerror${perl}`, () => {
    const script = '$! = $_, print "$_ $!\\n" for 1..133';
    const environment = { ...process.env, LC_ALL: "C" };
    const output = execFileSync("/usr/bin/perl", ["-e", script], {
      encoding: "utf8",
      env: environment,
    });
    const texts = new Map(
      output
        .trim()
        .split("\n")
        .map((line) => [Number.parseInt(line, 10), line.slice(line.indexOf(" ") + 1)] as const),
    );
    for (const number of ERRNO.values()) {
      expect(syscallError("x", number).message).toBe(`x: ${texts.get(number)}`);
    }
  });

  it("names what it does not know", () => {
    expect(syscallError("call", 4000, { path: "p" })).toMatchObject({
      code: "E4000",
      message: 'call "p": Error 4000',
    });
  });
});
