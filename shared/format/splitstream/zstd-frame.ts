// Finds where a zstd frame ends (RFC 8878, section 3.1) without decompressing it.
//
// Bun's decoders return what they have when input is cut short and ignore what follows a frame.
// Garbage collection must not mistake half a list of references for the whole, so the length is
// checked first.

import { FormatError } from "../../error.ts";

const FRAME_MAGIC = 0xfd2fb528;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** FormatError unless `bytes` is exactly one whole zstd frame. `what` names it in the message. */
export function checkZstdFrame(bytes: Uint8Array, what: string): void {
  const end = findFrameEnd(bytes);
  if (end === bytes.length) return;
  const [code, problem] =
    end > bytes.length
      ? (["truncated", "cut short"] as const)
      : (["bad-value", "damaged"] as const);
  throw new FormatError(code, `${what}: zstd frame is ${problem}`, { format: "zstd", offset: end });
}

/** Offset after the frame, more than the length when cut short, -1 when it is no frame. */
function findFrameEnd(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const past = bytes.length + 1;
  if (bytes.length < 5) return past;
  if (view.getUint32(0, true) !== FRAME_MAGIC) return -1;
  const descriptor = bytes[4]!;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const contentSizeFlag = descriptor >> 6;
  let at = 5 + (isSingleSegment ? 0 : 1);
  at += DICTIONARY_ID_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
  at +=
    contentSizeFlag === 0 && isSingleSegment
      ? 1
      : CONTENT_SIZE_BYTES[contentSizeFlag as 0 | 1 | 2 | 3];
  for (let isLast = false; !isLast; ) {
    if (at + 3 > bytes.length) return past;
    const header = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    const type = (header >> 1) & 3;
    if (type === RESERVED_BLOCK) return -1;
    isLast = (header & 1) !== 0;
    at += 3 + (type === RLE_BLOCK ? 1 : header >> 3);
  }
  return at + ((descriptor & 4) !== 0 ? 4 : 0);
}
