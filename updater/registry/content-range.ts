// Content-Range of a 206 answer (RFC 9110 14.4): which bytes these are.

export interface ContentRange {
  readonly startByte: number;
  /** Exclusive. */
  readonly endByte: number;
  /** Of the whole; null: the server does not say. */
  readonly sizeBytes: number | null;
}

/** "bytes 0-99/1000"; null when it is anything else, or contradicts itself. */
export function parseContentRange(field: string | null): ContentRange | null {
  const [, first, last, total] =
    /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(field?.trim() ?? "") ?? [];
  if (first === undefined || last === undefined) return null;
  const startByte = Number(first);
  const endByte = Number(last) + 1;
  const sizeBytes = total === "*" ? null : Number(total);
  if (endByte <= startByte || (sizeBytes !== null && endByte > sizeBytes)) return null;
  return { startByte, endByte, sizeBytes };
}
