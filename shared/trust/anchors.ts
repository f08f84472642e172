// Reads the trust directory (/usr/lib/bootc/trust: keys.d, revoked.d, trust.conf) of an initramfs, of a running
// system or of an image.
//
// Invariant: a missing directory means no keys, everything else that is not as it should be is an error. Links
// count as that: they could lead from the verified tree into /etc, which is the machine's.

import { FormatError, isErrno } from "../error.ts";
import { S_IFMT, S_IFREG } from "../format/tree/node.ts";
import { parseTrustAnchors, type TrustAnchors } from "../format/trust/anchors.ts";
import { O } from "../sys/constants.ts";
import { openDirectory, readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openat, readAll } from "../sys/file.ts";
import { decodeText } from "../sys/small-file.ts";
import { fstat, fstatatIfExists } from "../sys/stat.ts";

/** Where the trust directory lies, below `/`. */
export const TRUST_DIRECTORY = "usr/lib/bootc/trust";

/** One more than there may be. */
const FILES_LIMIT = 257;
/** Of each file, also of those that are no key. */
export const TRUST_FILE_LIMIT_BYTES = 1 << 20;
const CONF = "trust.conf";

/** `directory`: the trust directory, null when there is none. FormatError when something in it is wrong. */
export function readTrustAnchors(directory: Fd | null): TrustAnchors {
  if (directory === null) {
    return parseTrustAnchors({ keys: new Map(), revoked: new Map(), conf: null });
  }
  const hasConf = fstatatIfExists(directory, CONF) !== null;
  return parseTrustAnchors({
    keys: readFolder(directory, "keys.d"),
    revoked: readFolder(directory, "revoked.d"),
    conf: hasConf ? readText(directory, CONF, CONF) : null,
  });
}

/** The trust directory below `root`; null when there is none. */
export function openTrustDirectory(root: Fd): Fd | null {
  return openFolder(root, TRUST_DIRECTORY, TRUST_DIRECTORY);
}

/** The trust directory at `path`; null when there is none. */
export function openTrustFolder(path: string): Fd | null {
  return openFolder(null, path, path);
}

/** Name -> text; hidden files (an editor's, .gitkeep) do not count. */
function readFolder(directory: Fd, folder: string): ReadonlyMap<string, string> {
  using fd = openFolder(directory, folder, folder);
  if (fd === null) return new Map();
  const names = readDirectory(fd)
    .map(({ name }) => Buffer.from(name).toString("utf8"))
    .filter((name) => !name.startsWith("."))
    .sort();
  // Nothing is read without end; which number is too many is the parser's to say.
  return new Map(names.slice(0, FILES_LIMIT).map((name) => [name, readNamed(fd, name, folder)]));
}

function readNamed(fd: Fd, name: string, folder: string): string {
  if (name.includes("\ufffd")) throw wrong(`${folder}/${name}`, "its name is not UTF-8");
  return readText(fd, name, `${folder}/${name}`);
}

function openFolder(parent: Fd | null, path: string, shown: string): Fd | null {
  try {
    return openDirectory(parent, path);
  } catch (cause) {
    if (isErrno(cause, "ENOENT")) return null;
    if (isErrno(cause, "ENOTDIR", "ELOOP")) throw wrong(shown, "it is not a directory");
    throw cause;
  }
}

function readText(parent: Fd, name: string, shown: string): string {
  try {
    // NONBLOCK: a FIFO must not stop the start for ever.
    using fd = openat(parent, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
    if ((fstat(fd).mode & S_IFMT) !== S_IFREG) throw wrong(shown, "it is not a regular file");
    return decodeText(readAll(fd, TRUST_FILE_LIMIT_BYTES), shown);
  } catch (cause) {
    if (isErrno(cause, "ELOOP")) throw wrong(shown, "it is a link: put the file itself there");
    throw cause;
  }
}

function wrong(name: string, problem: string): FormatError {
  return new FormatError("bad-value", `Cannot use "${name}" of the trust directory: ${problem}`, {
    format: "trust",
  });
}
