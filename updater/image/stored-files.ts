// Finds contents by SHA-256 among the files of the images in the repository, whose objects are named by
// another digest (fs-verity).
//
// Names only say where to look: a file counts when its bytes were hashed here and have the digest asked for.
// Looked at first is what lies at the same path with the same size, then what has the same size; how much
// is hashed in vain is bounded. What was hashed is remembered, so asking for many files of many layers
// reads each object once.

import { setImmediate } from "node:timers/promises";
import { FormatError, IntegrityError, isErrno, LOST_BLOCK } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { type ByteString, type FileContent, toByteString } from "../../shared/format/tree/node.ts";
import { listNames } from "../../shared/store/links.ts";
import { openObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { read } from "../../shared/sys/file.ts";
import { layerStreamName } from "./image-streams.ts";
import { readLayerEntries } from "./tree.ts";

export type StoredContent =
  | { readonly kind: "object"; readonly digest: string }
  /** Files of a few bytes are not objects. */
  | { readonly kind: "bytes"; readonly bytes: Uint8Array };

export interface WantedFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** sha256:… */
  readonly digest: string;
}

export interface StoredFiles {
  /** Null when no such content is stored, as far as one may look. */
  find(file: WantedFile): Promise<StoredContent | null>;
}

/** Objects of the same size that are tried for one file. */
const MAX_CANDIDATES = 4;
/** Hashed in vain because only the size agreed. */
const MAX_VAIN_BYTES = 512 << 20;
const READ_BYTES = 1 << 20;
/** After this much hashing, timers and sockets get their turn. */
const TURN_BYTES = 8 << 20;
const LAYER_PREFIX = layerStreamName("");

interface Index {
  /** "<size> <path>" -> object digests */
  readonly byPath: Map<string, Set<string>>;
  readonly bySize: Map<number, Set<string>>;
  /** What is known already, sha256:… -> content. */
  readonly byDigest: Map<string, StoredContent>;
}

/** Reads the list of files of every layer that is stored; layers that are damaged are passed over. */
export async function readStoredFiles(
  repo: Repository,
  damaged: ReadonlySet<string> = new Set(),
): Promise<StoredFiles> {
  const index: Index = { byPath: new Map(), bySize: new Map(), byDigest: new Map() };
  const small = new Map<ByteString, Uint8Array>();
  for (const name of listNames(repo, "streams")) {
    if (!name.startsWith(LAYER_PREFIX)) continue;
    try {
      await readLayerEntries(repo, name.slice(LAYER_PREFIX.length), (entry, content) => {
        if (entry.type === "file") addFile(index, small, entry.path, content);
      });
    } catch (error) {
      if (!(error instanceof FormatError) && !(error instanceof IntegrityError)) throw error;
    }
  }
  for (const bytes of small.values()) {
    index.byDigest.set(computeDigest(bytes), { kind: "bytes", bytes });
  }
  const search = new Search(repo, index, damaged);
  return { find: (file) => search.find(file) };
}

function addFile(
  index: Index,
  small: Map<ByteString, Uint8Array>,
  path: ByteString,
  content: FileContent,
): void {
  if (content.kind === "inline") {
    const { bytes } = content;
    if (bytes.length > 0) small.set(Buffer.from(bytes).toString("latin1"), bytes);
    return;
  }
  const { sizeBytes, digest } = content;
  if (digest === undefined) return;
  addTo(index.byPath, pathKey(path, sizeBytes), digest);
  addTo(index.bySize, sizeBytes, digest);
}

function addTo<Key>(map: Map<Key, Set<string>>, key: Key, digest: string): void {
  const set = map.get(key);
  if (set === undefined) map.set(key, new Set([digest]));
  else set.add(digest);
}

/** "./usr/bin/sh", "/usr/bin/sh" and "usr/bin/sh" are one path. */
function pathKey(path: ByteString, sizeBytes: number): string {
  return `${sizeBytes} ${path.replace(/^(?:\.?\/)+/, "")}`;
}

class Search {
  readonly #repo: Repository;
  readonly #index: Index;
  readonly #damaged: ReadonlySet<string>;
  readonly #hashed = new Set<string>();
  #vainBytes = 0;
  #turnBytes = 0;
  #buffer: Uint8Array | null = null;

  constructor(repo: Repository, index: Index, damaged: ReadonlySet<string>) {
    this.#repo = repo;
    this.#index = index;
    this.#damaged = damaged;
  }

  async find({ name, sizeBytes, digest }: WantedFile): Promise<StoredContent | null> {
    const { byDigest, byPath, bySize } = this.#index;
    const samePath = byPath.get(pathKey(toByteString(name), sizeBytes)) ?? [];
    for (const object of samePath) {
      if (!byDigest.has(digest)) await this.#hash(object);
    }
    const sameSize = bySize.get(sizeBytes) ?? new Set();
    let tries = MAX_CANDIDATES;
    for (const object of sameSize) {
      if (byDigest.has(digest) || tries === 0 || this.#vainBytes > MAX_VAIN_BYTES) break;
      // Not looked at again, however many files of this size are asked for.
      sameSize.delete(object);
      if (!(await this.#hash(object))) continue;
      tries--;
      if (!byDigest.has(digest)) this.#vainBytes += sizeBytes;
    }
    return byDigest.get(digest) ?? null;
  }

  /** False when that was done before, or the object is known to be damaged. */
  async #hash(object: string): Promise<boolean> {
    if (this.#hashed.has(object) || this.#damaged.has(object)) return false;
    this.#hashed.add(object);
    try {
      const digest = await this.#computeDigest(object);
      this.#index.byDigest.set(digest, { kind: "object", digest: object });
    } catch (error) {
      // What cannot be read is not there.
      if (!(error instanceof IntegrityError) && !isErrno(error, ...LOST_BLOCK)) throw error;
    }
    return true;
  }

  async #computeDigest(object: string): Promise<string> {
    using fd = openObject(this.#repo, object);
    this.#buffer ??= new Uint8Array(READ_BYTES);
    const hasher = new Bun.CryptoHasher("sha256");
    for (let count = read(fd, this.#buffer); count > 0; count = read(fd, this.#buffer)) {
      hasher.update(this.#buffer.subarray(0, count));
      this.#turnBytes += count;
      if (this.#turnBytes < TURN_BYTES) continue;
      this.#turnBytes = 0;
      await setImmediate();
    }
    return `sha256:${hasher.digest("hex")}`;
  }
}
