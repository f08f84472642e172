// Files with signatures: small, regular, and from media that are not trusted.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { FormatError } from "../../../shared/error.ts";
import { MAX_SIGNATURE_BYTES } from "./signature-source.ts";

/** FormatError when it is not a regular file or too large; node's error when it cannot be opened. */
export async function readFileBounded(path: string): Promise<Uint8Array> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const status = await file.stat();
  if (!status.isFile()) throw new FormatError("bad-value", `"${path}" is not a regular file`);
  if (status.size > MAX_SIGNATURE_BYTES) {
    throw new FormatError("limit", `"${path}" is larger than ${MAX_SIGNATURE_BYTES} bytes`);
  }
  return await file.readFile();
}
