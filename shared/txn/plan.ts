// What a transaction is: plain data, with every decision already made.
//
// Invariants: `prepare` only adds what nothing refers to yet (or removes what nothing refers to any
// more); `commit` is the one step after which the new state counts; `cleanup` only removes. Applying a
// step again changes nothing. Recovery after an interruption is to observe and plan anew.

/** Paths are absolute text. */
export type Step =
  /** The parent must exist. A directory that is there keeps its mode. */
  | { readonly kind: "mkdir"; readonly path: string; readonly mode: number }
  | {
      readonly kind: "write";
      readonly path: string;
      readonly bytes: Uint8Array;
      readonly mode: number;
    }
  | { readonly kind: "copy"; readonly from: string; readonly to: string; readonly mode: number }
  | { readonly kind: "symlink"; readonly target: string; readonly path: string }
  /** A file or a whole directory; missing is fine. */
  | { readonly kind: "remove"; readonly path: string }
  /**
   * `a` (the new) and `b` (the one in use) change places. Without `b`, `a` is renamed to it; without `a`
   * it was done before, and nothing happens.
   */
  | { readonly kind: "exchange"; readonly a: string; readonly b: string }
  /** A file, or the names in a directory, onto the disk. */
  | { readonly kind: "sync"; readonly path: string };

export interface Transaction {
  readonly prepare: readonly Step[];
  readonly commit: Step;
  readonly cleanup: readonly Step[];
}

/** A file with this text, which everybody may read. */
export function writeText(path: string, text: string): Step {
  return { kind: "write", path, bytes: Buffer.from(text), mode: 0o644 };
}
