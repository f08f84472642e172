// Records for systemd's journal in its native protocol: one datagram of fields to a socket
// (systemd's "Native Journal Protocol"; sd_journal_send(3)).
//
// A field is "NAME=value\n", or "NAME\n", the value's length as 64 little-endian bits, the value, "\n" when
// the value has line breaks. A machine without a journal, or with one that is too busy, loses the record:
// nothing that this program does may fail because of it.

import { join } from "node:path";
import { SyscallError } from "../../shared/error.ts";
import { sendDatagram } from "../../shared/sys/socket.ts";

/** Values longer than this are cut: a record has to fit in one datagram. */
const MAX_VALUE_BYTES = 8192;
const SOCKET = "systemd/journal/socket";
const IDENTIFIER = "bootc";

export interface JournalRecord {
  /** 128 bits as 32 lower-case hex digits. */
  readonly messageId: string;
  /** As syslog(3): 3 error, 4 warning, 5 notice, 6 information. */
  readonly priority: 3 | 4 | 5 | 6;
  readonly message: string;
  /** Names are upper case; what is null is left out. */
  readonly fields: Readonly<Record<string, string | number | null>>;
}

/** Sends the record to the journal of the machine whose /run is `runDirectory`, if it has one. */
export function sendJournal(runDirectory: string, record: JournalRecord): void {
  try {
    sendDatagram(join(runDirectory, SOCKET), encodeRecord(record));
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
  }
}

/** The datagram. */
export function encodeRecord({ messageId, priority, message, fields }: JournalRecord): Uint8Array {
  const all = {
    MESSAGE: message,
    MESSAGE_ID: messageId,
    PRIORITY: priority,
    SYSLOG_IDENTIFIER: IDENTIFIER,
    ...fields,
  };
  const parts = Object.entries(all).flatMap(([name, value]) =>
    value === null ? [] : encodeField(name, String(value)),
  );
  return Buffer.concat(parts);
}

function encodeField(name: string, text: string): Uint8Array[] {
  const value = Buffer.from(text).subarray(0, MAX_VALUE_BYTES);
  const end = Buffer.from("\n");
  if (!value.includes(0x0a)) return [Buffer.from(`${name}=`), value, end];
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(value.length));
  return [Buffer.from(`${name}\n`), length, value, end];
}
