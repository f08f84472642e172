// What is in a scratch repository, for tests.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readSplitStream, readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { readObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";

const LIMIT_BYTES = 64 << 20;

/** Names below streams/, without the references. */
export function streamNames(repo: Repository): string[] {
  const path = join(repo.path, "streams");
  return existsSync(path)
    ? readdirSync(path)
        .filter((name) => name !== "refs")
        .sort()
    : [];
}

export function namedRefs(repo: Repository, name: string): Map<string, string> {
  return readSplitStreamRefs(readObject(repo, streamObject(repo, name)!, LIMIT_BYTES)).namedRefs;
}

/** The tar a layer's stream stands for. */
export async function rebuildTar(repo: Repository, diffId: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const stream = readObject(repo, streamObject(repo, `oci-layer-${diffId}`)!, LIMIT_BYTES);
  await readSplitStream(stream, "ocilayer", {
    inline: (bytes) => void parts.push(Buffer.from(bytes)),
    external: (digest) => {
      const bytes = readObject(repo, digest, LIMIT_BYTES);
      parts.push(bytes);
      return bytes.length;
    },
  });
  return Buffer.concat(parts);
}

/** Paths of everything in the object store, half-written files included. */
export function listObjects(repo: Repository): string[] {
  const objects = join(repo.path, "objects");
  if (!existsSync(objects)) return [];
  return readdirSync(objects, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Objects whose content is not what their name says. */
export function findDamage(repo: Repository): string[] {
  const start = join(repo.path, "objects/").length;
  return listObjects(repo).filter((path) => {
    const digest = path.slice(start).replace("/", "");
    return computeVerityDigest(readFileSync(path), repo.algorithm) !== digest;
  });
}
