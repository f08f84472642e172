// Reading a blob or a part of it. The bytes are unverified; their number is not.

import { RegistryError, UnsupportedError } from "../../shared/error.ts";
import { parseContentRange } from "./content-range.ts";
import { askEndpoints, type EndpointPool } from "./endpoint-pool.ts";
import type { HttpResponse } from "./http.ts";
import { checkDigest } from "./manifest-fetch.ts";

export interface ByteRange {
  readonly startByte: number;
  /** Exclusive; null: to the end. */
  readonly endByte: number | null;
}

/** As `RegistryClient.openBlob`. */
export async function* readBlobRange(
  pool: EndpointPool,
  digest: string,
  range: ByteRange,
  name: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { startByte, endByte } = range;
  const path = `blobs/${checkDigest(digest, name)}`;
  if (endByte !== null && endByte <= startByte) return;
  const isWhole = startByte === 0 && endByte === null;
  const last = endByte === null ? "" : String(endByte - 1);
  const headers: Record<string, string> = isWhole ? {} : { range: `bytes=${startByte}-${last}` };
  const what = `Cannot fetch ${digest} of "${name}"`;
  const { response, session } = await askEndpoints(
    pool,
    what,
    async (session) => {
      const response = await session.open({ path, headers, signal });
      try {
        checkRange(response, range);
        return { response, session };
      } catch (cause) {
        response.close();
        throw cause;
      }
    },
    signal,
  );
  // Read to its end where that is near: the connection can be used again.
  const isExact =
    endByte !== null && Number(response.header("content-length")) === endByte - startByte;
  let leftBytes = endByte === null ? Number.POSITIVE_INFINITY : endByte - startByte;
  try {
    for await (const chunk of response.body) {
      const part = chunk.length > leftBytes ? chunk.subarray(0, leftBytes) : chunk;
      leftBytes -= part.length;
      yield part;
      if (leftBytes === 0 && !isExact) return;
    }
    if (endByte === null || leftBytes === 0) return;
    throw new RegistryError(
      "unavailable",
      `"${response.url.host}" sent ${leftBytes} bytes too few`,
    );
  } catch (cause) {
    if (leftBytes === 0) return;
    if (signal?.aborted) throw signal.reason;
    pool.faults.set(session, (pool.faults.get(session) ?? 0) + 1);
    if (!(cause instanceof RegistryError)) throw cause;
    throw new RegistryError(cause.code, what, cause.context, { cause });
  } finally {
    response.close();
  }
}

/** RegistryError("protocol") when it is not what was asked for, UnsupportedError when it is all of the blob. */
function checkRange(response: HttpResponse, { startByte, endByte }: ByteRange): void {
  const host = `"${response.url.host}"`;
  if (response.status === 200) {
    if (startByte === 0) return;
    throw new UnsupportedError("feature", `${host} does not give parts of blobs`);
  }
  const field = response.header("content-range");
  const found = parseContentRange(field);
  const isAsked =
    found !== null &&
    found.startByte === startByte &&
    (endByte === null ? found.endByte === found.sizeBytes : found.endByte <= endByte);
  if (isAsked && !(startByte === 0 && endByte === null)) return;
  const wanted = `${startByte}-${endByte === null ? "" : endByte - 1}`;
  throw new RegistryError(
    "protocol",
    `${host} was asked for bytes ${wanted} and answers with "${(field ?? "").slice(0, 80)}"`,
  );
}
