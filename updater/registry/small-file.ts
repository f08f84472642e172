// A small file from any web server, such as a signature from a look-aside store: no registry protocol, no
// credentials, but this machine's proxies and certificates.

import { FormatError, RegistryError } from "../../shared/error.ts";
import { openHttpTransport } from "./http.ts";
import { sendFollowing } from "./redirect.ts";
import { openSystemAccess } from "./system-access.ts";

/** Null when the server has no such file. RegistryError; FormatError when it is larger than allowed. */
export async function fetchSmallFile(url: URL, maxBytes: number): Promise<Uint8Array | null> {
  const access = openSystemAccess();
  await using transport = openHttpTransport(access);
  const request = {
    method: "GET",
    url,
    headers: { "user-agent": access.userAgent },
    isVerified: true,
    onBehalfOf: url.host,
    proxy: null,
  } as const;
  const response = await sendFollowing(transport, request, false);
  if (response.status === 404) {
    response.close();
    return null;
  }
  if (response.status !== 200) {
    response.close();
    throw new RegistryError("unavailable", `Cannot fetch "${url}": HTTP status ${response.status}`);
  }
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const part of response.body) {
    sizeBytes += part.length;
    if (sizeBytes > maxBytes) {
      throw new FormatError("limit", `"${url}" is larger than ${maxBytes} bytes`);
    }
    parts.push(part);
  }
  return Buffer.concat(parts);
}
