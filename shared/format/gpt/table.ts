// GUID partition tables (UEFI specification, 5.3): which partitions a disk has, as far as finding the EFI system
// partition needs it. Only the primary table is read.
//
// The bytes come from a disk that is not trusted: everything is bounded, and a table that is not one is null. Its
// checksums prove nothing here and are not looked at.

import { bytes, ignored, struct, u32, u64n } from "../../bytes/layout.ts";
import { FormatError } from "../../error.ts";

export interface GptPartition {
  /** As the kernel counts, from 1. */
  readonly number: number;
  /** GUIDs in lower case. */
  readonly type: string;
  readonly id: string;
}

export interface GptHead {
  readonly entriesAtBytes: number;
  readonly count: number;
  readonly entryBytes: number;
}

/** Of an EFI system partition. */
export const ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

const SIGNATURE = "EFI PART";
const MAX_ENTRIES = 1024;
const ENTRY_BYTES = [128, 256, 512, 1024, 2048, 4096];

export const GptHeader = struct("GPT header", 92, {
  signature: bytes(8),
  revision: u32,
  headerBytes: u32,
  headerChecksum: u32,
  reserved: ignored(4),
  ownBlock: u64n,
  otherBlock: ignored(8),
  firstUsableBlock: ignored(8),
  lastUsableBlock: ignored(8),
  diskId: bytes(16),
  entriesBlock: u64n,
  entryCount: u32,
  entryBytes: u32,
  entriesChecksum: u32,
});
export const GptEntry = struct("GPT entry", 56, {
  type: bytes(16),
  id: bytes(16),
  firstBlock: ignored(8),
  lastBlock: ignored(8),
  attributes: ignored(8),
});

/** `block`: the disk's second block; null when no table begins there. */
export function parseGptHead(block: Uint8Array, blockBytes: number): GptHead | null {
  try {
    const head = GptHeader.decode(block);
    const { entriesBlock, entryBytes, entryCount: count } = head;
    if (Buffer.from(head.signature).toString("latin1") !== SIGNATURE) return null;
    if (count > MAX_ENTRIES || !ENTRY_BYTES.includes(entryBytes)) return null;
    const entriesAtBytes = entriesBlock * blockBytes;
    return Number.isSafeInteger(entriesAtBytes) ? { entriesAtBytes, count, entryBytes } : null;
  } catch (error) {
    if (error instanceof FormatError) return null;
    throw error;
  }
}

/** `table`: the bytes of all entries; those that are cut off or unused are left out. */
export function parseGptEntries(table: Uint8Array, { count, entryBytes }: GptHead): GptPartition[] {
  const partitions: GptPartition[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * entryBytes;
    if (at + GptEntry.sizeBytes > table.length) break;
    const { id, type } = GptEntry.decode(table, at);
    if (type.some((byte) => byte !== 0)) {
      partitions.push({ number: index + 1, type: formatGuid(type), id: formatGuid(id) });
    }
  }
  return partitions;
}

/** The first three parts are stored little-endian. */
function formatGuid(bytes: Uint8Array): string {
  const hex = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
    .map((index) => bytes[index]!.toString(16).padStart(2, "0"))
    .join("");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-");
}
