// Whether systemd-boot was told to start one certain entry: then it starts that one also when its tries are used up,
// again and again (measured: boot-counting-and-esp.md 1), so nothing can be fallen back to. A pattern is fine.
//
// We never write such a default; `bootctl set-default ID` and people with editors do.

import { join } from "node:path";
import { readSmallText } from "../../shared/sys/small-file.ts";
import type { BootDirectory } from "./boot-layout.ts";
import { readLoaderVariable } from "./efi-variable.ts";
import type { System } from "./system.ts";

const SIZE_LIMIT_BYTES = 64 * 1024;

/** A sentence for `status` when there is one, else none. Never throws. */
export function findFixedDefault(system: System, boot: BootDirectory): readonly string[] {
  if (boot.layout.counting !== "entry-name") return [];
  try {
    const variable = readLoaderVariable(system, "LoaderEntryDefault") ?? "";
    if (isFixed(variable)) return [describe(variable, 'bootctl set-default ""')];
    const text = readSmallText(join(boot.path, "loader/loader.conf"), SIZE_LIMIT_BYTES) ?? "";
    const line = /^[ \t]*default[ \t]+(\S+)/m.exec(text)?.[1] ?? "";
    return isFixed(line) ? [describe(line, 'take "default" out of loader.conf on the ESP')] : [];
  } catch {
    return []; // what cannot be read is not what this is about
  }
}

function isFixed(value: string): boolean {
  return value !== "" && !/[*?[]/.test(value);
}

function describe(value: string, remedy: string): string {
  return `The boot loader always starts "${value}", so it cannot fall back when a deployment does not start; ${remedy}`;
}
