// What the last look for an update found, `state/bootc/cached-update.json` below the physical root: the
// `cachedUpdate` of the Host document. Ours; bootc keeps nothing of the kind on composefs.
//
// It holds for the image reference it was found for and for no other, so a switch makes it void without
// anybody removing it. Reading is lenient: an unusable file is a problem to report and no update.

import { join } from "node:path";
import * as z from "zod";
import { describeError } from "../../shared/error.ts";
import { parseJson } from "../../shared/format/oci/json.ts";
import { readSmallFile } from "../../shared/sys/small-file.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import { makeDirectorySteps } from "./boot-record.ts";
import type { ImageFacts } from "./image-facts.ts";

const FILE = "state/bootc/cached-update.json";
const SIZE_LIMIT_BYTES = 64 * 1024;

const cachedUpdate = z.object({
  /** As in origin files: it says how signatures are checked, too. */
  reference: z.string(),
  manifestDigest: z.string().regex(/^sha(256|512):[0-9a-f]{64,128}$/),
  version: z.string().nullable(),
  timestamp: z.string().nullable(),
  architecture: z.string(),
  /** RFC 3339 */
  checkedAt: z.string(),
});
export type CachedUpdate = Readonly<z.infer<typeof cachedUpdate>>;

/** FormatError naming `path`. */
export function parseCachedUpdate(bytes: Uint8Array, path: string): CachedUpdate {
  return parseJson(cachedUpdate, bytes, `Cached update "${path}"`);
}

/** Null when there is none; one that cannot be read is added to `problems`. */
export function readCachedUpdate(physicalRoot: string, problems: string[]): CachedUpdate | null {
  const path = join(physicalRoot, FILE);
  try {
    const bytes = readSmallFile(path, SIZE_LIMIT_BYTES);
    return bytes === null ? null : parseCachedUpdate(bytes, path);
  } catch (error) {
    problems.push(`What the last check for updates found is ignored: ${describeError(error)}`);
    return null;
  }
}

export interface FoundUpdate {
  readonly originReference: string;
  readonly manifestDigest: string;
  readonly facts: ImageFacts;
}

/** Keeps what was found, unless that is known already: a check that finds nothing new writes nothing. */
export function keepCachedUpdate(physicalRoot: string, found: FoundUpdate, now: Date): void {
  const { originReference: reference, manifestDigest, facts } = found;
  const known = readCachedUpdate(physicalRoot, []);
  if (known?.reference === reference && known.manifestDigest === manifestDigest) return;
  const { version, timestamp, architecture } = facts;
  const checkedAt = now.toISOString();
  const content = { reference, manifestDigest, version, timestamp, architecture, checkedAt };
  const text = `${JSON.stringify(content satisfies CachedUpdate)}\n`;
  applySteps([...makeDirectorySteps(physicalRoot), writeText(join(physicalRoot, FILE), text)]);
}
