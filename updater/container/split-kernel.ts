// `bootc container split-kernel-and-rootfs` (bootc.md 10.3): moves kernel and initramfs out of an image's root,
// so that the digest of what is left can be put into a unified kernel made of the two.
//
// Renames only: nothing is copied, so both places must be on one file system. What was moved is moved back
// when the second one fails. The directory they were in keeps its time, so that the digest is that of the image
// with a layer that takes them away (seal-layer.ts).

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import { utimensat } from "../../shared/sys/attributes.ts";
import { RENAME } from "../../shared/sys/constants.ts";
import { renameat2 } from "../../shared/sys/link.ts";
import { fstatat, fstatatIfExists } from "../../shared/sys/stat.ts";
import { requirePlainKernel } from "./rootfs-kernel.ts";

const FILES = ["initramfs.img", "vmlinuz"];

export interface SplitPlan {
  readonly version: string;
  /** Where the files are. */
  readonly source: string;
  /** Made when it is not there. */
  readonly directory: string;
  readonly moves: readonly { readonly from: string; readonly to: string }[];
}

/** StateError when `rootfs` has no kernel, a unified one, or none with an initramfs. */
export function planSplit(rootfs: string, output: string): SplitPlan {
  const kernel = requirePlainKernel(rootfs);
  const directory = join(output, kernel.version);
  const moves = FILES.map((name) => ({ from: join(kernel.path, name), to: join(directory, name) }));
  const missing = moves.find(({ from }) => fstatatIfExists(null, from) === null);
  if (missing !== undefined) {
    throw new StateError("missing", `There is no "${missing.from}"; run dracut before this`);
  }
  return { version: kernel.version, source: kernel.path, directory, moves };
}

export function splitKernel({ source, directory, moves }: SplitPlan): void {
  mkdirSync(directory, { recursive: true });
  const { mtimeSec, mtimeNsec } = fstatat(null, source);
  for (const [index, { from, to }] of moves.entries()) {
    try {
      renameat2(null, from, null, to, RENAME.NOREPLACE);
    } catch (cause) {
      for (const done of moves.slice(0, index)) renameat2(null, done.to, null, done.from);
      throw explainRename(cause, from, to);
    } finally {
      utimensat(null, source, mtimeSec, mtimeNsec);
    }
  }
}

function explainRename(cause: unknown, from: string, to: string): unknown {
  if (isErrno(cause, "EXDEV")) {
    const message = `Cannot move "${from}" to "${to}": they are on different file systems; choose an --output on the root's`;
    return new StateError("conflict", message, {}, { cause });
  }
  if (!isErrno(cause, "EEXIST")) return cause;
  return new StateError("exists", `"${to}" is there already; choose another --output`);
}
