// Puts single files of a stored layer back from the layer itself, which is read again from its source.
//
// The layer's splitstream says which file of the tar is which object, so only the wanted ones are written;
// each has the digest in its name or is not stored. What is wrong with the source changes nothing else.

import { IntegrityError } from "../../shared/error.ts";
import { readSplitStream } from "../../shared/format/splitstream/reader.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader, type TarSink } from "../../shared/format/tar/reader.ts";
import { createObject, type ObjectWriter } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { INLINE_MAX_BYTES } from "./layer-splitter.ts";
import { type LayerInput, readLayer } from "./layers.ts";

const NO_SINK: TarSink = { raw() {}, entry() {}, content() {}, contentEnd() {} };

/**
 * `stream` is the layer's splitstream, `wanted` are digests in it. IntegrityError when the source has
 * another layer; FormatError when one of the two is malformed.
 */
export async function restoreLayerObjects(
  repo: Repository,
  input: LayerInput,
  stream: Uint8Array,
  wanted: ReadonlySet<string>,
): Promise<void> {
  const files = await listFiles(stream);
  using picker = new ObjectPicker(repo, files, wanted, input.what);
  await readLayer(input, picker, async () => {});
  picker.finish();
}

/** Digests of the files that are objects, in the order of the tar. */
async function listFiles(stream: Uint8Array): Promise<string[]> {
  const files: string[] = [];
  const reader = new TarReader(NO_SINK);
  await readSplitStream(stream, "ocilayer", {
    inline: (bytes) => reader.write(bytes),
    external: (digest) => {
      files.push(digest);
      return reader.skipContent().sizeBytes;
    },
  });
  return files;
}

class ObjectPicker implements TarSink {
  readonly #repo: Repository;
  readonly #files: readonly string[];
  readonly #wanted: Set<string>;
  readonly #what: string;
  #fileBytes = 0;
  #index = 0;
  #object: ObjectWriter | null = null;

  constructor(
    repo: Repository,
    files: readonly string[],
    wanted: ReadonlySet<string>,
    what: string,
  ) {
    this.#repo = repo;
    this.#files = files;
    this.#wanted = new Set(wanted);
    this.#what = what;
  }

  raw(): void {}

  entry(entry: TarEntry): void {
    this.#fileBytes = entry.sizeBytes;
  }

  content(bytes: Uint8Array): void {
    if (this.#fileBytes <= INLINE_MAX_BYTES) return;
    const digest = this.#files[this.#index];
    if (digest === undefined || !this.#wanted.has(digest)) return;
    this.#object ??= createObject(this.#repo, { replaces: true });
    this.#object.write(bytes);
  }

  contentEnd(): void {
    if (this.#fileBytes <= INLINE_MAX_BYTES) return;
    const expected = this.#files[this.#index];
    this.#index += 1;
    if (this.#object === null) return;
    const { digest } = this.#object.finish();
    this.#object = null;
    if (digest !== expected) throw this.#mismatch(`has object "${digest}" as its file`);
    this.#wanted.delete(digest);
  }

  /** All files were there. */
  finish(): void {
    const [digest] = this.#wanted;
    if (digest !== undefined) throw this.#mismatch(`has no object "${digest}"`);
  }

  #mismatch(problem: string): IntegrityError {
    return new IntegrityError(
      "digest-mismatch",
      `${this.#what} ${problem}; it is not the layer that is stored`,
    );
  }

  /** Drops a file that was not completed. */
  [Symbol.dispose](): void {
    this.#object?.[Symbol.dispose]();
  }
}
