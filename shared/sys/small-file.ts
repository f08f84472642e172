// Reading a small file that may be anything by now: missing, a directory, a device, a link to itself, ten
// megabytes of noise. Only a regular file of bounded size is read, and nothing else is even opened.

import { FormatError, isErrno } from "../error.ts";
import { openRegularFile, readAll } from "./file.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Null when nothing has that name. FormatError for what is no regular file or larger than `limitBytes`,
 * SyscallError when the disk or a loop of links forbids it; both name the path.
 */
export function readSmallFile(path: string, limitBytes: number): Uint8Array | null {
  try {
    using fd = openRegularFile(null, path);
    if (fd !== null) return readAll(fd, limitBytes);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return null;
    if (error instanceof FormatError) throw tooLarge(path, limitBytes);
    throw error;
  }
  throw new FormatError("bad-value", `"${path}" is not a regular file`, { path });
}

/** As `readSmallFile`; FormatError also when it is not UTF-8. */
export function readSmallText(path: string, limitBytes: number): string | null {
  const bytes = readSmallFile(path, limitBytes);
  return bytes === null ? null : decodeText(bytes, path);
}

export function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new FormatError("bad-value", `"${path}" is not UTF-8 text`, { path }, { cause });
  }
}

function tooLarge(path: string, limitBytes: number): FormatError {
  return new FormatError("limit", `"${path}" is larger than ${limitBytes} bytes`, { path });
}
