// auth.json (containers-auth.json(5)), Docker's config.json and the older .dockercfg: JSON -> what it says about which
// registry.
//
// No message and no error cause quotes a value of these files.

import * as z from "zod";
import { FormatError } from "../../shared/error.ts";

/** One file, read. */
export interface AuthFile {
  readonly path: string;
  /** Key as written ("quay.io/fedora", "https://index.docker.io/v1/") -> entry. */
  readonly entries: ReadonlyMap<string, AuthEntry>;
  /** Key -> name of the credential helper that knows. */
  readonly helpers: ReadonlyMap<string, string>;
  /** The helper for all other registries. */
  readonly store: string | null;
  /** .dockercfg: keys are API URLs, only hosts count. */
  readonly isLegacy: boolean;
}

export interface AuthEntry {
  /** Base64 of "user:password". */
  readonly auth: string;
  readonly identityToken: string;
}

const entrySchema = z.looseObject({
  auth: z.string().nullish(),
  identitytoken: z.string().nullish(),
});
const legacySchema = z.record(z.string(), entrySchema);
const fileSchema = z.looseObject({
  auths: legacySchema.nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
  credsStore: z.string().nullish(),
});

/** `path` is for messages. FormatError naming it and the key. */
export function parseAuthFile(
  bytes: Uint8Array,
  path: string,
  { isLegacy = false } = {},
): AuthFile {
  const value = parseJsonQuietly(bytes, path);
  if (isLegacy) {
    const auths = check(legacySchema, value, path);
    return { path, entries: readEntries(auths), helpers: new Map(), store: null, isLegacy };
  }
  const { auths, credHelpers, credsStore } = check(fileSchema, value, path);
  return {
    path,
    entries: readEntries(auths ?? {}),
    helpers: new Map(Object.entries(credHelpers ?? {})),
    store: credsStore || null,
    isLegacy,
  };
}

function readEntries(auths: z.infer<typeof legacySchema>): ReadonlyMap<string, AuthEntry> {
  return new Map(
    Object.entries(auths).map(([key, { auth, identitytoken }]) => [
      key,
      { auth: auth ?? "", identityToken: identitytoken ?? "" },
    ]),
  );
}

function parseJsonQuietly(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // The parser's message would quote what it did not understand.
    throw malformed(path, `it is not JSON; an empty file of this kind is "{}"`);
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, path: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw malformed(path, `"${issue.path.map(String).join(".")}": ${issue.message}`);
}

function malformed(path: string, reason: string): FormatError {
  return new FormatError("bad-value", `Cannot read "${path}": ${reason}`, {
    format: "auth.json",
    path,
  });
}
