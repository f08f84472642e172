// The kernel that an image is sealed with: its own vmlinuz and initramfs, or where a unified kernel has taken their
// place already, what that was made of.

import { join } from "node:path";
import { FormatError, StateError } from "../../shared/error.ts";
import { type DirectoryNode, fromByteString, sortedNames } from "../../shared/format/tree/node.ts";
import type { OpenUnifiedKernel } from "../../shared/format/uki/reader.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { findBootKernel, type PlainKernel, type UnifiedKernelFiles } from "../image/boot-kernel.ts";
import { openFileContent } from "../image/file-content.ts";
import { lookupDirectory, lookupFile } from "../image/tree-lookup.ts";
import { openUkiFile } from "../image/uki-file.ts";
import { makeKeyArchive } from "./ephemeral-key.ts";
import { checkRelease } from "./ukify.ts";

export const MODULES = "usr/lib/modules";
const FILE_MODE = 0o600;

export interface SealKernel {
  /** As `uname -r` will say. */
  readonly version: string;
  /** Null when it has to be taken out of `previous`. */
  readonly plain: PlainKernel | null;
  /** The unified kernel that is replaced. */
  readonly previous: UnifiedKernelFiles | null;
}

/** StateError when there is a unified kernel already and it is not to be replaced; FormatError without any. */
export function chooseSealKernel(
  tree: DirectoryNode,
  options: { readonly reseal: boolean },
): SealKernel {
  const kernel = findBootKernel(tree);
  if (kernel.kind === "bls") {
    return { version: checkRelease(kernel.version), plain: kernel, previous: null };
  }
  if (!options.reseal) {
    throw new StateError(
      "conflict",
      `The image is sealed already, with "${kernel.path}"; "--reseal" seals it anew, as it is now`,
    );
  }
  if (!kernel.path.startsWith("/boot/EFI/Linux/")) {
    throw new StateError(
      "conflict",
      `The image has a unified kernel at "${kernel.path}", which its own digest would cover; remove it`,
    );
  }
  const plain = findPlainKernel(tree);
  return { version: checkRelease(plain?.version ?? kernel.version), plain, previous: kernel };
}

/** The first that was installed after the unified one had been made. */
function findPlainKernel(tree: DirectoryNode): PlainKernel | null {
  const modules = lookupDirectory(tree, MODULES);
  for (const name of modules === null ? [] : sortedNames(modules)) {
    const version = fromByteString(name);
    const vmlinuz = lookupFile(tree, `${MODULES}/${version}/vmlinuz`);
    const initramfs = lookupFile(tree, `${MODULES}/${version}/initramfs.img`);
    if (vmlinuz !== null && initramfs !== null) return { kind: "bls", version, vmlinuz, initramfs };
  }
  return null;
}

export interface KernelParts {
  readonly linux: string;
  readonly initrd: string;
}

/** Writes kernel and initramfs to files in `directory`. FormatError when the unified kernel lacks one. */
export function extractKernel(
  repo: Repository,
  kernel: SealKernel,
  directory: string,
): KernelParts {
  const parts = { linux: join(directory, "vmlinuz"), initrd: join(directory, "initramfs.img") };
  const { plain, previous } = kernel;
  const write = (path: string, chunks: Iterable<Uint8Array>) =>
    writeChunksAtomic(null, path, chunks, { mode: FILE_MODE, sync: false });
  if (plain !== null) {
    write(parts.linux, openFileContent(repo, plain.vmlinuz));
    write(parts.initrd, openFileContent(repo, plain.initramfs));
    return parts;
  }
  if (previous === null) throw new FormatError("not-found", "The image has no kernel");
  using uki = openUkiFile(repo, previous.file, previous.path);
  write(parts.linux, uki.readChunks(".linux"));
  write(parts.initrd, withoutOwnKey(uki));
  return parts;
}

/**
 * The initramfs of a unified kernel without the key that was put behind it when it was sealed: that key was for the
 * image of then.
 */
export function* withoutOwnKey(uki: OpenUnifiedKernel): Generator<Uint8Array> {
  const tailBytes = findOwnKey(uki);
  const section = uki.sections.find(({ name }) => name === ".initrd");
  const keepBytes = (section?.sizeBytes ?? 0) - tailBytes;
  let done = 0;
  for (const chunk of uki.readChunks(".initrd")) {
    const count = Math.min(chunk.length, keepBytes - done);
    done += count;
    if (count > 0) yield chunk.subarray(0, count);
  }
}

/**
 * Length of the archive with the kernel's own key at the end of its initramfs, 0 without such a key. FormatError when the
 * key's section and the initramfs do not agree.
 */
export function findOwnKey(uki: OpenUnifiedKernel): number {
  const key = uki.readText(".bkeys");
  if (key === null) return 0;
  const archive = makeKeyArchive(`${key}\n`);
  let tail = Buffer.alloc(0);
  for (const chunk of uki.readChunks(".initrd")) {
    tail = Buffer.concat([tail, chunk]).subarray(-archive.length);
  }
  if (tail.equals(archive)) return archive.length;
  throw new FormatError(
    "bad-value",
    'The unified kernel has a section ".bkeys", but its initramfs does not end with that key: seal it again',
  );
}
