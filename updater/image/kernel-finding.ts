// What can be said about an image's kernel before the image is here: the boot partition needs room for it.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import type { ChunkedFile } from "../../shared/format/zstd-chunked/toc.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { StoredContent } from "./stored-files.ts";
import { readLayerEntries } from "./tree.ts";

export type KernelFinding =
  /** A table of contents lists kernel and initramfs. `isStored`: an image that is here has the same ones. */
  | { readonly kind: "known"; readonly sizeBytes: number; readonly isStored: boolean }
  /** The kernel is in a layer that is here already. */
  | { readonly kind: "stored" }
  | { readonly kind: "unknown" };

interface Part {
  readonly sizeBytes: number;
  readonly isStored: boolean;
}

/** usr/lib/modules/VERSION/(vmlinuz|initramfs.img), as findBootKernel looks for them. */
const KERNEL_PATH = /^(?:\.?\/)*usr\/lib\/modules\/([^/]+)\/(vmlinuz|initramfs\.img)$/;
/** Before those it looks for unified ones: the first by name counts. */
const UNIFIED_PATH = /^(?:\.?\/)*boot\/EFI\/Linux\/([^/]+\.efi)$/;

/** Is told of the layers in their order, lowest first; a later layer's kernel hides an earlier one's. */
export class KernelSearch {
  readonly #parts = new Map<string, Part>();
  readonly #unified = new Map<string, Part>();
  readonly #storedLayers: string[] = [];

  addTable(files: readonly ChunkedFile[], found: ReadonlyMap<string, StoredContent>): void {
    for (const { name, sizeBytes, digest } of files) {
      const unified = UNIFIED_PATH.exec(name)?.[1];
      if (unified !== undefined && !unified.endsWith(".addon.efi")) {
        // One deployment's own: an equal one of another is copied again.
        this.#unified.set(unified, { sizeBytes, isStored: false });
      }
      const match = KERNEL_PATH.exec(name);
      if (match === null) continue;
      this.#parts.set(`${match[1]}/${match[2]}`, { sizeBytes, isStored: found.has(digest) });
    }
  }

  addStored(diffId: string): void {
    this.#storedLayers.push(diffId);
  }

  /** Reads the stored layers when no table tells. */
  async finish(repo: Repository | null): Promise<KernelFinding> {
    const [unified] = [...this.#unified].sort(([a], [b]) => (a < b ? -1 : 1));
    if (unified !== undefined) return { kind: "known", ...unified[1] };
    for (const [name, vmlinuz] of [...this.#parts].reverse()) {
      const initramfs = this.#parts.get(name.replace(/vmlinuz$/, "initramfs.img"));
      if (!name.endsWith("/vmlinuz") || initramfs === undefined) continue;
      const sizeBytes = vmlinuz.sizeBytes + initramfs.sizeBytes;
      return { kind: "known", sizeBytes, isStored: vmlinuz.isStored && initramfs.isStored };
    }
    if (this.#parts.size > 0) return { kind: "unknown" };
    for (const diffId of this.#storedLayers) {
      if (repo !== null && (await hasKernel(repo, diffId))) return { kind: "stored" };
    }
    return { kind: "unknown" };
  }
}

async function hasKernel(repo: Repository, diffId: string): Promise<boolean> {
  const names = new Set<string>();
  try {
    await readLayerEntries(repo, diffId, ({ type, path }) => {
      const match = type === "file" ? KERNEL_PATH.exec(path) : null;
      if (match !== null) names.add(match[2]!);
    });
  } catch (error) {
    if (error instanceof FormatError || error instanceof IntegrityError) return false;
    throw error;
  }
  return names.size === 2;
}
