// The log of QEMU's blklogwrites driver, which is that of the kernel's dm-log-writes: a superblock, then for
// each request a header sector and its data (Documentation/admin-guide/device-mapper/log-writes.rst).

import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";

const MAGIC = 0x6a736677736872n;
const SECTOR_BYTES = 512;
const FLAG = { FLUSH: 1n, FUA: 2n, DISCARD: 4n, MARK: 8n } as const;

export interface LoggedRequest {
  /** Byte offset on the disk; data is empty for a flush alone. */
  readonly offset: number;
  readonly data: Uint8Array;
  readonly isFlush: boolean;
}

/** In the order in which the disk got them. Throws where the log is none. */
export function readWriteLog(log: Buffer): readonly LoggedRequest[] {
  if (log.readBigUInt64LE(0) !== MAGIC) throw new Error("This is no log of block writes");
  const count = Number(log.readBigUInt64LE(16));
  const sectorBytes = log.readUInt32LE(24);
  if (sectorBytes !== SECTOR_BYTES) throw new Error(`The log has sectors of ${sectorBytes} bytes`);
  const requests: LoggedRequest[] = [];
  let at = SECTOR_BYTES;
  for (let n = 0; n < count; n++) {
    const sector = Number(log.readBigUInt64LE(at));
    const sectors = Number(log.readBigUInt64LE(at + 8));
    const flags = log.readBigUInt64LE(at + 16);
    at += SECTOR_BYTES;
    const isFlush = (flags & (FLAG.FLUSH | FLAG.FUA)) !== 0n;
    const isDiscard = (flags & FLAG.DISCARD) !== 0n;
    const length = sectors * SECTOR_BYTES;
    const data = isDiscard ? new Uint8Array(length) : log.subarray(at, at + length);
    if (!isDiscard) at += length;
    if ((flags & FLAG.MARK) !== 0n) continue;
    requests.push({ offset: sector * SECTOR_BYTES, data, isFlush });
  }
  return requests;
}

/** How many requests a log has so far; QEMU may be writing it. */
export function countRequests(logPath: string): number {
  const header = Buffer.alloc(SECTOR_BYTES);
  const fd = openSync(logPath, "r");
  try {
    readSync(fd, header, 0, SECTOR_BYTES, 0);
  } finally {
    closeSync(fd);
  }
  return header.readBigUInt64LE(0) === MAGIC ? Number(header.readBigUInt64LE(16)) : 0;
}

/** Carries the requests of a log, in their order, over to the image that the disk began as. */
export interface LogReplay extends Disposable {
  /** Up to and without this request; never back. */
  readonly advance: (to: number) => void;
  /** Bytes written so far. */
  readonly writtenBytes: () => number;
}

/** For logs that are larger than memory. What was discarded keeps what it had, as a disk may do. */
export function openReplay(logPath: string, imagePath: string): LogReplay {
  const [log, image] = [openSync(logPath, "r"), openSync(imagePath, "r+")];
  const logBytes = fstatSync(log).size;
  const header = Buffer.alloc(SECTOR_BYTES);
  let [done, at, written] = [0, SECTOR_BYTES, 0];
  const step = () => {
    if (at >= logBytes) throw new Error(`The log ends after ${done} requests`);
    readSync(log, header, 0, SECTOR_BYTES, at);
    at += SECTOR_BYTES;
    done += 1;
    const flags = header.readBigUInt64LE(16);
    if ((flags & FLAG.DISCARD) !== 0n) return;
    const data = Buffer.allocUnsafe(Number(header.readBigUInt64LE(8)) * SECTOR_BYTES);
    if (data.length === 0) return;
    readSync(log, data, 0, data.length, at);
    at += data.length;
    if ((flags & FLAG.MARK) !== 0n) return;
    writeSync(image, data, 0, data.length, Number(header.readBigUInt64LE(0)) * SECTOR_BYTES);
    written += data.length;
  };
  return {
    advance: (to) => {
      while (done < to) step();
    },
    writtenBytes: () => written,
    [Symbol.dispose]: () => {
      closeSync(log);
      closeSync(image);
    },
  };
}
