// The file tree of a pulled image, read back from its layer splitstreams: headers come from the
// streams, file contents stay in the object store and appear as digests.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { readSplitStream } from "../../shared/format/splitstream/reader.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader, type TarSink } from "../../shared/format/tar/reader.ts";
import type { DirectoryNode, FileContent } from "../../shared/format/tree/node.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { layerStreamName, readStream } from "./image-streams.ts";
import { INLINE_MAX_BYTES } from "./layer-splitter.ts";
import { applyEntry, createRoot } from "./layer-tree.ts";

const EMPTY: FileContent = { kind: "inline", bytes: new Uint8Array(0) };

/** Layers in order, lowest first. IntegrityError("missing-object") when one is not in the store. */
export async function readImageTree(
  repo: Repository,
  diffIds: readonly string[],
): Promise<DirectoryNode> {
  const root = createRoot();
  for (const diffId of diffIds) {
    await readLayerEntries(repo, diffId, (entry, content) => applyEntry(root, entry, content));
  }
  return root;
}

type EntryVisitor = (entry: TarEntry, content: FileContent) => void;

/** Each entry of a stored layer, in the tar's order; errors as `readImageTree`. */
export async function readLayerEntries(
  repo: Repository,
  diffId: string,
  visit: EntryVisitor,
): Promise<void> {
  const what = `Layer ${diffId}`;
  const stream = readStream(repo, layerStreamName(diffId));
  if (stream === null) {
    throw new IntegrityError("missing-object", `${what} is not in the repository`, { diffId });
  }
  const builder = new EntryBuilder(visit);
  const reader = new TarReader(builder);
  try {
    await readSplitStream(stream, "ocilayer", {
      inline: (bytes) => reader.write(bytes),
      external: (digest) => {
        const { sizeBytes } = reader.skipContent();
        builder.setExternal(digest, sizeBytes);
        return sizeBytes;
      },
    });
    reader.finish();
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(cause.code, `${what} cannot be unpacked`, cause.context, { cause });
  }
}

/** Passes an entry on as soon as its content is known. */
class EntryBuilder implements TarSink {
  readonly #visit: EntryVisitor;
  #entry: TarEntry | null = null;
  #inline = new Uint8Array(0);
  #inlineFill = 0;

  constructor(visit: EntryVisitor) {
    this.#visit = visit;
  }

  raw(): void {}

  entry(entry: TarEntry): void {
    if (entry.type !== "file" || entry.sizeBytes === 0) {
      this.#visit(entry, EMPTY);
      return;
    }
    this.#entry = entry;
    this.#inlineFill = 0;
    if (entry.sizeBytes <= INLINE_MAX_BYTES) this.#inline = new Uint8Array(entry.sizeBytes);
  }

  content(bytes: Uint8Array): void {
    if (this.#entry === null || this.#entry.sizeBytes > INLINE_MAX_BYTES) {
      throw new FormatError("bad-value", "a large file is inline in the splitstream");
    }
    this.#inline.set(bytes, this.#inlineFill);
    this.#inlineFill += bytes.length;
  }

  contentEnd(): void {
    this.#apply({ kind: "inline", bytes: this.#inline });
  }

  setExternal(digest: string, sizeBytes: number): void {
    if (sizeBytes <= INLINE_MAX_BYTES) {
      throw new FormatError("bad-value", "a small file is external in the splitstream");
    }
    this.#apply({ kind: "external", sizeBytes, digest, payload: objectPath(digest) });
  }

  #apply(content: FileContent): void {
    if (this.#entry !== null) this.#visit(this.#entry, content);
    this.#entry = null;
  }
}
