// From a directory on disk to the objects of a commit, as `ostree commit --tree=dir=…` sees it: owners, modes, all
// extended attributes, contents and symlinks; no times and no hard links.

import { FormatError, StateError } from "../error.ts";
import { encodeDirtree } from "../format/ostree/dirtree.ts";
import { type FileHeader, makeFileHeader, requireText } from "../format/ostree/file-header.ts";
import { encodeOwnership } from "../format/ostree/metadata.ts";
import {
  byteStringToBytes,
  bytesToByteString,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../format/tree/node.ts";
import { O } from "../sys/constants.ts";
import { openDirectory, readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openat, read } from "../sys/file.ts";
import { readlinkat } from "../sys/link.ts";
import { describeFd } from "../sys/path.ts";
import { type FileStat, fstat, fstatat } from "../sys/stat.ts";
import { readXattrs } from "./content.ts";
import { addContent, addMetadata, type Transaction } from "./transaction.ts";

const CHUNK_BYTES = 1 << 20;

/** Checksums of the directory's dirtree and dirmeta. */
export interface CommittedDirectory {
  readonly tree: string;
  readonly meta: string;
}

interface Scan {
  readonly transaction: Transaction;
  readonly buffer: Uint8Array;
  /** Contents of files with several names, by device and inode. */
  readonly linked: Map<string, string>;
}

/** Adds everything below `path`. FormatError for devices, FIFOs, sockets and names that are not UTF-8. */
export function addDirectory(transaction: Transaction, path: string): CommittedDirectory {
  using fd = openDirectory(null, path);
  return addOpen({ transaction, buffer: new Uint8Array(CHUNK_BYTES), linked: new Map() }, fd);
}

function addOpen(scan: Scan, fd: Fd): CommittedDirectory {
  const files = [];
  const directories = [];
  for (const { name } of readDirectory(fd)) {
    const stat = fstatat(fd, name);
    if ((stat.mode & S_IFMT) === S_IFDIR) {
      using child = openDirectory(fd, name);
      directories.push({ name: bytesToByteString(name), ...addOpen(scan, child) });
    } else {
      files.push({ name: bytesToByteString(name), checksum: addFile(scan, fd, name, stat) });
    }
  }
  const { mode, uid, gid } = fstat(fd);
  const xattrs = readXattrs(`/proc/self/fd/${fd.number}/.`);
  const { transaction } = scan;
  return {
    tree: addMetadata(transaction, "dirtree", encodeDirtree({ files, directories })),
    meta: addMetadata(transaction, "dirmeta", encodeOwnership({ mode, uid, gid, xattrs })),
  };
}

function addFile(scan: Scan, parent: Fd, name: Uint8Array, stat: FileStat): string {
  const type = stat.mode & S_IFMT;
  const { mode, uid, gid, devMajor, devMinor, ino } = stat;
  const key = stat.nlink > 1 ? `${devMajor}:${devMinor}:${ino}` : null;
  const known = key === null ? undefined : scan.linked.get(key);
  if (known !== undefined) return known;
  const xattrPath = `/proc/self/fd/${parent.number}/${bytesToByteString(name)}`;
  const xattrs = readXattrs(byteStringToBytes(xattrPath));
  let checksum: string;
  if (type === S_IFLNK) {
    const target = bytesToByteString(readlinkat(parent, name));
    const text = requireText(target, "A symlink's target");
    const header = makeFileHeader({ mode, uid, gid, xattrs }, text);
    checksum = addContent(scan.transaction, header, []);
  } else if (type === S_IFREG) {
    const header = makeFileHeader({ mode, uid, gid, xattrs }, "");
    checksum = addRegular(scan, header, parent, name);
  } else {
    throw new FormatError(
      "unsupported",
      `"${describeFd(parent)}/${Buffer.from(name)}" is neither file, directory nor symlink; ostree holds no others`,
      { format: "ostree" },
    );
  }
  if (key !== null) scan.linked.set(key, checksum);
  return checksum;
}

function addRegular(scan: Scan, header: FileHeader, parent: Fd, name: Uint8Array): string {
  // O_NONBLOCK: a FIFO that took the name meanwhile must not hang us.
  using fd = openat(parent, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  const before = fstat(fd);
  const checksum = addContent(scan.transaction, header, readAllOf(fd, scan.buffer));
  const after = fstat(fd);
  const isSame =
    before.mode === header.mode &&
    after.sizeBytes === before.sizeBytes &&
    after.mtimeSec === before.mtimeSec &&
    after.mtimeNsec === before.mtimeNsec;
  if (isSame) return checksum;
  throw new StateError("conflict", `"${describeFd(fd)}" was changed while it was read; try again`);
}

function* readAllOf(fd: Fd, buffer: Uint8Array): Generator<Uint8Array> {
  for (let count = read(fd, buffer); count > 0; count = read(fd, buffer)) {
    yield buffer.subarray(0, count);
  }
}
