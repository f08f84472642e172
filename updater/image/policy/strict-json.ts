// JSON of which two readers must never see different things: a key that is there twice is refused, and
// so is whatever the schema does not know. For policies and signed payloads, where another
// implementation might take the other of two values (containers-policy.json(5): duplicates are errors).

import type { z } from "zod";
import { FormatError } from "../../../shared/error.ts";
import { parseJson } from "../../../shared/format/oci/json.ts";

/** `what` names the document: `Policy "/etc/containers/policy.json"`. FormatError. */
export function parseStrictJson<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  const value = parseJson(schema, bytes, what);
  const twice = findDuplicateKey(new TextDecoder().decode(bytes));
  if (twice === null) return value;
  throw new FormatError("bad-value", `${what} has the key "${twice}" twice in one object`, {
    format: what,
    field: twice,
  });
}

/** In text that is JSON; null when all keys of each object differ. */
function findDuplicateKey(text: string): string | null {
  /** A set for each open object, null for each open array. */
  const open: (Set<string> | null)[] = [];
  const token = /"(?:[^"\\]|\\.)*"|[{}[\]:]/gs;
  let last = "";
  for (const [part] of text.matchAll(token)) {
    if (part === "{") open.push(new Set());
    else if (part === "[") open.push(null);
    else if (part === "}" || part === "]") open.pop();
    else if (part === ":") {
      const key = JSON.parse(last) as string;
      const keys = open.at(-1);
      if (keys?.has(key) === true) return key;
      keys?.add(key);
    } else last = part;
  }
  return null;
}
