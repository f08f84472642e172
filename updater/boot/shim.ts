// Shim on a boot partition: the first program where firmware trusts its vendor's key and not the image's.
//
// It is never replaced. It starts the program beside it whose name begins with "grub" (its built-in
// default), so that is where systemd-boot goes, unless another boot loader is there already.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { FormatError } from "../../shared/error.ts";
import type { Transaction } from "../../shared/txn/plan.ts";
import { openUki } from "./uki.ts";

/** On the boot partition: where firmware looks when it knows of nothing else. */
export const FALLBACK_DIRECTORY = "EFI/BOOT";

/** Names in the fallback directory that are shims, e.g. `BOOTX64.EFI`. */
export function findShims(bootPath: string): readonly string[] {
  const directory = join(bootPath, FALLBACK_DIRECTORY);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => /^boot[a-z0-9]+\.efi$/i.test(name))
    .filter((name) => isShim(join(directory, name)))
    .sort();
}

/**
 * Puts systemd-boot where a shim starts it. `programs` is a directory with `systemd-boot<arch>.efi`, and
 * perhaps `.efi.signed`, which is preferred, as bootctl does. Null when another loader is there.
 */
export function planSecondStage(
  bootPath: string,
  shim: string,
  programs: string,
): Transaction | null {
  const architecture = shim.slice("boot".length, -".efi".length).toLowerCase();
  const to = join(bootPath, FALLBACK_DIRECTORY, `grub${architecture}.efi`);
  if (existsSync(to) && !isSystemdBoot(to)) return null;
  const plain = join(programs, `systemd-boot${architecture}.efi`);
  const from = [`${plain}.signed`, plain].find((path) => existsSync(path));
  if (from === undefined) return null;
  return { prepare: [], commit: { kind: "copy", from, to, mode: 0o644 }, cleanup: [] };
}

/** By the generation numbers that every shim since 2021 carries, or the vendor's key that all have. */
function isShim(path: string): boolean {
  return inProgram(path, (program) => {
    const generations = program.readText(".sbat") ?? "";
    return (
      /^shim,/m.test(generations) ||
      program.sections.some(({ name }) => name === ".vendor_cert" || name === ".vendor_c")
    );
  });
}

function isSystemdBoot(path: string): boolean {
  return inProgram(path, (program) =>
    /LoaderInfo: systemd-boot/.test(program.readText(".sdmagic") ?? ""),
  );
}

function inProgram(path: string, ask: (program: ReturnType<typeof openUki>) => boolean): boolean {
  try {
    using program = openUki(path);
    return ask(program);
  } catch (error) {
    // What is no program at all is neither.
    if (error instanceof FormatError) return false;
    throw error;
  }
}
