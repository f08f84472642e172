// Reads the new root's first program and its libraries ahead, through the new root.
//
// A damaged object gives an I/O error when it is read. In init that means "Freezing execution", for
// ever, on a machine that could have started another deployment: so it is found out here. The reads
// are not wasted, the same pages are needed a moment later.

import { IntegrityError, isErrno, StateError } from "../shared/error.ts";
import { O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, pread, read } from "../shared/sys/file.ts";
import { type PathRoot, resolveBelow } from "./path-below.ts";
import { type ProgramNeeds, readProgramNeeds } from "./program-file.ts";

/** What systemd's switch-root starts: `init=`, else itself, else /sbin/init. */
const DEFAULT_PROGRAMS = ["/usr/lib/systemd/systemd", "/sbin/init"];
const MULTIARCH = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const LIBRARY_DIRS = [`/usr/lib/${MULTIARCH}`, "/usr/lib64", "/usr/lib", "/lib64", "/lib"];

const CHUNK_BYTES = 1 << 18;
const MAX_FILES = 500;

interface Root extends PathRoot {
  /** What is read is thrown away. */
  readonly buffer: Uint8Array;
}

/**
 * IntegrityError when one of the files cannot be read. StateError when there is no program to start;
 * `mayLack` (outside an initramfs) accepts that. Returns how many files were read.
 */
export function readFirstProgram(fd: Fd, init: string | null, mayLack: boolean): number {
  const root: Root = { fd, directories: new Map(), buffer: new Uint8Array(CHUNK_BYTES) };
  const candidates = init === null ? DEFAULT_PROGRAMS : [init];
  const program = firstFile(root, candidates);
  if (program === null) {
    if (mayLack) return 0;
    throw new StateError(
      "missing",
      `The image has no program to start (${candidates.join(" or ")}): choose another boot entry`,
    );
  }
  const queue = [program];
  const seen = new Set(queue);
  // The queue grows while it is worked through.
  for (const path of queue) {
    const found = neededFiles(root, readThrough(root, path)).filter((other) => !seen.has(other));
    for (const other of found) seen.add(other);
    if (seen.size <= MAX_FILES) queue.push(...found);
  }
  return queue.length;
}

/** Paths of the interpreter and the libraries; those that are elsewhere are left to ld.so. */
function neededFiles(root: Root, needs: ProgramNeeds): string[] {
  const folders = [...needs.searchPath.filter((path) => path.startsWith("/")), ...LIBRARY_DIRS];
  const libraries = needs.libraries.map((name) =>
    firstFile(root, name.includes("/") ? [name] : folders.map((folder) => `${folder}/${name}`)),
  );
  const interpreter = needs.interpreter === null ? null : firstFile(root, [needs.interpreter]);
  return [interpreter, ...libraries].filter((path) => path !== null);
}

function readThrough({ buffer, fd: root }: Root, path: string): ProgramNeeds {
  try {
    using fd = openat(root, path.slice(1), O.RDONLY);
    while (read(fd, buffer) > 0);
    return readProgramNeeds((offset, length) => {
      const part = new Uint8Array(length);
      return part.subarray(0, pread(fd, part, offset));
    });
  } catch (cause) {
    // ENOENT: the name is there, but the object behind it is not.
    if (!isErrno(cause, "EIO", "ENOENT")) throw cause;
    throw new IntegrityError(
      "digest-mismatch",
      `"${path}", which every start needs, was changed or lost on the disk: choose another boot entry`,
      { path },
      { cause },
    );
  }
}

/** The first of `paths` that is no directory, without symlinks and relative to the root. */
function firstFile(root: Root, paths: readonly string[]): string | null {
  for (const path of paths) {
    const found = resolveBelow(root, path);
    if (found !== null && !found.isDirectory) return found.path;
  }
  return null;
}
