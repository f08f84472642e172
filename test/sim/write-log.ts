// The log of QEMU's blklogwrites driver, which is that of the kernel's dm-log-writes: a superblock, then for
// each request a header sector and its data (Documentation/admin-guide/device-mapper/log-writes.rst).

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
