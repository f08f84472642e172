// Takes away what the environment could do to a Bun executable, and what `strip` would do to it.
//
// Bun reads dozens of BUN_* variables, and some run code, listen on a port or end the program
// (docs/decisions/0005). No build flag turns them off, so the names are blanked in the base executable
// before anything is compiled into it: their first byte becomes NUL, which no variable's name can
// start with. Invariant: every name in REQUIRED was really there, else Bun has changed and this
// file has to be looked at again; test/hardening.test.ts checks the effect on the result.

import { FormatError } from "../../shared/error.ts";
import { findSection, readElf, resizeSection } from "./elf.ts";
import { disableJscPrefix } from "./jsc-prefix.ts";

/** Names that must be found, each known to have an effect at run time (found with a debugger on getenv). */
const REQUIRED = [
  "BUN_BE_BUN",
  "BUN_OPTIONS",
  "BUN_INSPECT",
  "BUN_INSPECT_CONNECT_TO",
  "BUN_INSPECT_PRELOAD",
  "BUN_BYTECODE_ORDER_OUT",
  "BUN_BYTECODE_DIGEST_OUT",
  "BUN_DESTRUCT_VM_ON_EXIT",
  "BUN_ENABLE_CRASH_REPORTING",
  "BUN_FEATURE_FLAG_NO_ORPHANS",
] as const;

/** Not variables but C macros and properties that Bun's own sources spell in two places. */
const KEPT = ["BUN_FFI_", "BUN_WORKER_", "BUN_PLUGIN_", "BUN_INTERNALS_", "BUN_DATA_"] as const;

/** Variables of JavaScriptCore, its allocator and Node's process protocol; whole C strings. */
const FOREIGN = [
  "JavaScriptCoreUseJIT",
  "JSC_SIGNAL_FOR_GC",
  "WTF_numberOfProcessorCores",
  "WebKitMallocForceEnabled",
  "WebKitSystemHeapOverrideEnablement",
  "NODE_CHANNEL_FD",
] as const;

/** Blanks the names in `executable` in place and tells how many; throws when one is missing. */
export function blankEnvironmentNames(executable: Buffer): number {
  const elf = readElf(executable);
  const rodata = findSection(elf, ".rodata");
  const strings = executable.subarray(rodata.offset, rodata.offset + rodata.sizeBytes);
  const missing = [...REQUIRED, ...FOREIGN].filter((name) => !strings.includes(`\0${name}\0`));
  if (missing.length > 0) throw changed(`not in .rodata: ${missing.join(", ")}`);

  let count = 0;
  for (let at = strings.indexOf("BUN_"); at >= 0; at = strings.indexOf("BUN_", at + 1)) {
    // "__BUN_…" is a longer name; "process.env.BUN_ENV" is a key of Bun's bundler, not a variable.
    const isPartOfLongerName = strings[at - 1] === 0x5f || strings[at - 1] === 0x2e;
    const isKept = KEPT.some((name) => strings.toString("latin1", at, at + name.length) === name);
    if (isPartOfLongerName || isKept) continue;
    strings[at] = 0;
    count++;
  }
  for (const name of FOREIGN) {
    strings[strings.indexOf(`\0${name}\0`) + 1] = 0;
    count++;
  }
  const text = findSection(elf, ".text");
  const code = executable.subarray(text.offset, text.offset + text.sizeBytes);
  const places = disableJscPrefix(code, elf.machine);
  if (places !== 1) throw changed(`${places} places compare with BUN_JSC_, expected 1`);
  return count + 1;
}

/**
 * Lets the compiled executable survive `strip`. Bun moves its section .bun to the payload, and the
 * eight bytes where .bun used to be, which hold the payload's address, then belong to no section:
 * strip writes zeros there and the program becomes the plain `bun` command. They are given to
 * .data.rel.ro, which ends exactly where they start.
 */
export function protectFromStrip(executable: Buffer): void {
  const elf = readElf(executable);
  const payload = findSection(elf, ".bun");
  const neighbour = findSection(elf, ".data.rel.ro");
  const pointerOffset = neighbour.offset + neighbour.sizeBytes;
  const pointer = executable.readBigUInt64LE(pointerOffset);
  if (pointer !== BigInt(payload.address)) {
    throw changed("the payload's address does not follow .data.rel.ro");
  }
  resizeSection(executable, neighbour, neighbour.sizeBytes + 8);
}

function changed(what: string): FormatError {
  return new FormatError(
    "not-found",
    `Cannot harden this Bun executable: ${what}; adapt scripts/build/harden.ts to the new version`,
  );
}
