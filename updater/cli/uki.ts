// `bootc internals uki extract UKI OUTDIR` (bootc.md 1.3): the kernel and initramfs of a unified kernel, as
// OUTDIR/<release>/{vmlinuz,initramfs.img}, the names they have in /usr/lib/modules.

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { Command } from "@commander-js/extra-typings";
import { FormatError } from "../../shared/error.ts";
import type { UnifiedKernel } from "../../shared/format/uki/reader.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { openUki } from "../boot/uki.ts";
import type { Terminal } from "./terminal.ts";

const FILES = [
  ["vmlinuz", ".linux"],
  ["initramfs.img", ".initrd"],
] as const;

export function makeUkiCommand(terminal: Terminal) {
  return new Command("uki").description("Look into unified kernels").addCommand(
    new Command("extract")
      .description("Write a unified kernel's parts to OUTDIR/<release>/{vmlinuz,initramfs.img}")
      .argument("<uki>", "the EFI program")
      .argument("<outdir>", "made when it is not there")
      .action((path, outdir) => {
        using kernel = openUki(resolve(path));
        const directory = join(resolve(outdir), readRelease(kernel, path));
        mkdirSync(directory, { recursive: true });
        for (const [name, section] of FILES) {
          writeChunksAtomic(null, join(directory, name), kernel.readChunks(section), {
            mode: 0o644,
          });
        }
        terminal.line(directory);
      }),
  );
}

/** It becomes a directory's name. */
function readRelease(kernel: UnifiedKernel, path: string): string {
  const release = kernel.readText(".uname");
  if (release !== null && /^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$/.test(release)) return release;
  const found = release === null ? "there is none" : `it says "${release}"`;
  throw new FormatError(
    "bad-value",
    `Section ".uname" of "${path}" names no kernel release: ${found}`,
    { path },
  );
}
