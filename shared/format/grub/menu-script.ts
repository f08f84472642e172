// Boot entries as a GRUB script, for a GRUB that has no `blscfg` command (2.12 and older, but Fedora's;
// docs/boot-loaders.md). Only `linux` entries: unified kernels are chainloaded by user.cfg.
//
// Every word is in single quotes, in which GRUB knows no special characters. A quoted kernel argument
// (`a="b c"`) is one word without its quotes; GRUB puts quotes around the whole word for the kernel.

import type { BlsEntry } from "../bls/entry.ts";
import { parseCmdline } from "../kargs/cmdline.ts";

/** `id` is the file name of the entry without ".conf". */
export interface ScriptEntry {
  readonly id: string;
  readonly entry: BlsEntry;
}

/** In the order given; entries that start no `linux` are left out. */
export function formatMenuScript(entries: readonly ScriptEntry[]): string {
  return entries.map(formatScriptEntry).join("");
}

function formatScriptEntry({ id, entry }: ScriptEntry): string {
  if (entry.target.kind !== "linux") return "";
  const { linux, initrds } = entry.target;
  const title = entry.title ?? id;
  const words = parseCmdline(entry.options).map(({ key, value }) =>
    value === null ? key : `${key}=${value}`,
  );
  const lines = [
    `menuentry ${quote(title)} --id ${quote(id)} {`,
    `  linux ${[linux, ...words].map(quote).join(" ")}`,
    ...(initrds.length === 0 ? [] : [`  initrd ${initrds.map(quote).join(" ")}`]),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

/** A single quote ends the quoting, stands for itself with a backslash, and begins it again. */
function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
