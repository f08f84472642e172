// What a fuzz target is. One target is one file in targets/, named after it, that exports `target`;
// nothing else needs to know about it.
//
// A target is bundled together with the instrumented product code and runs in a process of its own.

import type { Random } from "../support/random-dump.ts";

export interface FuzzTarget {
  /** Valid inputs to begin with. `root` is the project's folder. */
  readonly seeds: (root: string) => Iterable<Uint8Array>;
  /**
   * Runs the code on `input` and checks what must hold. Returns true when the input was accepted.
   * Throws PropertyError when a promise is broken; the code's own documented errors pass through.
   */
  readonly check: (input: Uint8Array) => boolean | Promise<boolean>;
  /** The files the target is about; reports say how much of them was reached. All if not given. */
  readonly focus?: RegExp;
  /** Longer inputs are cut. */
  readonly maxBytes: number;
  /** Changes only this format's structure makes possible; null when there is nothing to change. */
  readonly mutate?: (input: Uint8Array, random: Random) => Uint8Array | null;
  /** Restores checksums and sizes after a change, so that it is not refused for these alone. */
  readonly repair?: (input: Uint8Array) => Uint8Array;
  /** Texts that matter in the format, put into inputs here and there. */
  readonly words?: readonly string[];
  /** Names of the error classes `check` may let through; FormatError and IntegrityError if not given. */
  readonly errors?: readonly string[];
  /** Steps (function calls and turns of loops) an input may take for each of its bytes. */
  readonly stepsPerByte?: number;
  /** Bytes of memory an input may ask for by number for each of its bytes. */
  readonly memoryPerByte?: number;
}

/** The code accepted an input and broke a promise about it. */
export class PropertyError extends Error {
  override readonly name = "PropertyError";
}

/** Throws PropertyError unless both are equal. */
export function checkEqual(
  found: string | number | boolean | undefined,
  expected: string | number | boolean | undefined,
  what: string,
): void {
  if (found === expected) return;
  const [a, b] = [String(found), String(expected)];
  let at = 0;
  while (at < a.length && a[at] === b[at]) at += 1;
  const around = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 80), at + 160));
  throw new PropertyError(`${what}: at ${at} ${around(a)} instead of ${around(b)}`);
}

/** Throws PropertyError unless both have the same bytes. */
export function checkSameBytes(found: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(found, expected) === 0) return;
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  throw new PropertyError(
    `${what}: ${found.length} and ${expected.length} bytes differ from byte ${at} on`,
  );
}

/** The result, or the error when it is one of the code's own. */
export function attempt<T>(run: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: run() };
  } catch (error) {
    if (error instanceof Error && "kind" in error) return { error };
    throw error;
  }
}
