// What a check of the host side of a machine finds, and what would mend it, as plain data.

import type { Finding } from "../../shared/store/finding.ts";
import type { EntryFile } from "./entry-exchange.ts";

export type HostFindingKind =
  | "entries-unreadable"
  | "entry-broken"
  | "entry-missing"
  | "entry-dead"
  | "entry-duplicate"
  | "old-name"
  | "kernel-missing"
  | "kernel-damaged"
  | "kernel-wrong"
  | "addon-missing"
  | "addon-damaged"
  | "state-incomplete"
  | "origin-broken"
  | "origin-incomplete"
  | "origin-wrong"
  | "record-broken"
  | "staged-broken"
  | "staged-unusable"
  | "staged-leftover"
  | "leftover";

export type HostStep =
  /** Absolute paths. */
  | { readonly kind: "remove"; readonly path: string }
  | { readonly kind: "copy-kernel"; readonly directory: string; readonly from: string }
  /** A unified kernel, less ".efi"; one of the addons for all of them. */
  | { readonly kind: "copy-uki"; readonly artefact: string; readonly from: string }
  | { readonly kind: "copy-addon"; readonly name: string; readonly from: string }
  | { readonly kind: "write-origin"; readonly id: string; readonly text: string }
  /** Beside the live entries, or in the place of a broken one. */
  | { readonly kind: "write-entry"; readonly entry: EntryFile }
  | { readonly kind: "remove-entry"; readonly fileName: string }
  | { readonly kind: "remove-stray"; readonly path: string }
  | { readonly kind: "link-var"; readonly id: string }
  | { readonly kind: "make-var" }
  | { readonly kind: "drop-staged" }
  | { readonly kind: "rename-artefacts" };

export interface HostFinding extends Finding<HostFindingKind> {
  /** In this order; none: a person has to decide. */
  readonly steps: readonly HostStep[];
}
