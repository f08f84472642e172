// A deployment's origin, `<commit>.<serial>.origin`: where it came from and what ostree remembers about it
// (ostree.md 3.10). A keyfile; unknown groups and keys are others' (rpm-ostree's).

import { type Ini, parseIni } from "../keyfile/ini.ts";

export interface OstreeOrigin {
  /** `remote:ref`, `ref` or a bare checksum. */
  readonly refspec: string | null;
  /** Of a container image, as `ostree-unverified-registry:…`. */
  readonly containerImageReference: string | null;
  readonly overrideCommit: string | null;
  /** A text to show instead of upgrading. */
  readonly unconfiguredState: string | null;
  readonly isUnlocked: boolean;
  readonly isPinned: boolean;
  readonly keyfile: Ini;
}

/** `source` names the file in messages. */
export function parseOstreeOrigin(text: string, source: string): OstreeOrigin {
  const keyfile = parseIni(text, source);
  const origin = keyfile.get("origin");
  return {
    refspec: origin?.get("refspec") ?? null,
    containerImageReference: origin?.get("container-image-reference") ?? null,
    overrideCommit: origin?.get("override-commit") ?? null,
    unconfiguredState: origin?.get("unconfigured-state") ?? null,
    isUnlocked: origin?.has("unlocked") ?? false,
    isPinned: keyfile.get("libostree-transient")?.get("pinned") === "true",
    keyfile,
  };
}
