// A journal for tests: the socket that records are sent to, and what arrived there.

import { dlopen, FFIType } from "bun:ffi";
import { closeSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const MAX_RECORD_BYTES = 1 << 20;

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: FFIType.i64_fast },
});

/** Field -> value. */
export type JournalFields = Readonly<Record<string, string>>;

/** The journal's socket below `runDirectory`. */
export class JournalSocket implements Disposable {
  readonly #fd: number;

  constructor(runDirectory: string) {
    const path = join(runDirectory, "systemd/journal/socket");
    mkdirSync(dirname(path), { recursive: true });
    this.#fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${path}\0`)]);
    if (this.#fd < 0 || libc.bind(this.#fd, address, address.length) !== 0) {
      throw new Error(`Cannot listen on "${path}"`);
    }
  }

  /** What was sent since the last call. */
  take(): JournalFields[] {
    const records: JournalFields[] = [];
    const buffer = Buffer.alloc(MAX_RECORD_BYTES);
    for (;;) {
      const length = Number(libc.recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT));
      if (length < 0) return records;
      records.push(parseRecord(buffer.subarray(0, length)));
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** The reader's half of the native protocol. */
export function parseRecord(bytes: Buffer): JournalFields {
  const fields: Record<string, string> = {};
  for (let at = 0; at < bytes.length; ) {
    const lineEnd = bytes.indexOf(0x0a, at);
    if (lineEnd < 0) throw new Error("A field does not end");
    const line = bytes.toString("utf8", at, lineEnd);
    const equals = line.indexOf("=");
    at = lineEnd + 1;
    if (equals >= 0) {
      fields[line.slice(0, equals)] = line.slice(equals + 1);
      continue;
    }
    const length = Number(bytes.readBigUInt64LE(at));
    fields[line] = bytes.toString("utf8", at + 8, at + 8 + length);
    at += 8 + length;
    if (bytes[at] !== 0x0a) throw new Error(`The value of ${line} does not end`);
    at += 1;
  }
  return fields;
}
