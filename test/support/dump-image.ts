// The image of a dump as one piece of memory, for tests: the product writes it piece by piece.

import { planErofsFromDump } from "../../shared/format/erofs/writer.ts";
import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";

type Plan = typeof planErofsFromDump;

export function writeErofsFromDump(
  dump: Parameters<Plan>[0],
  options: Parameters<Plan>[1],
  format: Parameters<Plan>[2],
  algorithm?: VerityAlgorithm,
): Uint8Array {
  const { sizeBytes, write } = planErofsFromDump(dump, options, format, algorithm);
  const image = new Uint8Array(sizeBytes);
  let offset = 0;
  write((piece) => {
    image.set(piece, offset);
    offset += piece.length;
  });
  if (offset !== sizeBytes) throw new Error(`${offset} of ${sizeBytes} bytes were written`);
  return image;
}
