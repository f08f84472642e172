// JSON documents from outside: bounded, parsed, then checked against a schema.

import type { z } from "zod";
import { FormatError } from "../../error.ts";

/** FormatError naming the document and the field. `what`: "OCI manifest sha256:…". */
export function parseJson<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FormatError("bad-value", `${what} is not JSON`, { format: what }, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue?.path.map(String).join(".") ?? "";
  const where = field === "" ? "" : ` at "${field}"`;
  throw new FormatError("bad-value", `${what} is malformed${where}: ${issue?.message}`, {
    format: what,
    field,
  });
}
