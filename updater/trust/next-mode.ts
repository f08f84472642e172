// What the next stronger mode needs, for people who read `bootc status` (docs/sealing.md). Pure.

import type { SecureBoot } from "./secure-boot.ts";

export type TrustMode = "sealed" | "signed" | "ostree-signed" | "unlocked";

export interface NextMode {
  readonly mode: "sealed" | "signed" | "ostree-signed";
  /** One sentence each. */
  readonly needs: readonly string[];
}

export interface ModeFacts {
  readonly mode: TrustMode;
  /** The unified kernel's own command line names the image. */
  readonly sealed: boolean;
  /** Kernel, initramfs and command line are one file. */
  readonly unified: boolean;
  readonly secureBoot: SecureBoot;
  /** The image has keys in its trust directory. */
  readonly hasKeys: boolean;
  /** ostree deployed it, which has a mode of its own. */
  readonly isOstree?: boolean;
  readonly verity: "enforced" | "optional" | "none";
}

/** Null: there is none. */
export function findNextMode(facts: ModeFacts): NextMode | null {
  const { mode, sealed, unified } = facts;
  switch (mode) {
    case "sealed":
    case "ostree-signed":
      return null;
    case "signed":
      // With Secure Boot both say the same: the firmware's keys, and nothing else, decide what starts.
      if (unified && facts.secureBoot === "enabled") return null;
      return { mode: "sealed", needs: listSealedNeeds(facts) };
    case "unlocked":
      if (facts.isOstree === true) return { mode: "ostree-signed", needs: OSTREE_NEEDS };
      return sealed
        ? { mode: "sealed", needs: listSealedNeeds(facts) }
        : { mode: "signed", needs: listSignedNeeds(facts) };
  }
}

function listSealedNeeds({ sealed, secureBoot, unified, verity }: ModeFacts): readonly string[] {
  return [
    ...(sealed || unified
      ? []
      : ['Build the image with a unified kernel that names it ("bootc container seal")']),
    ...SECURE_BOOT_NEEDS[secureBoot],
    ...(verity === "none" ? [VERITY_NEED] : []),
  ];
}

function listSignedNeeds({ hasKeys, verity }: ModeFacts): readonly string[] {
  const keys = hasKeys
    ? "Rebuild the initramfs of the image: its trust directory has keys, and the initramfs that started it had none"
    : 'Put a public key into /usr/lib/bootc/trust/keys.d of the image before its initramfs is built, and sign it ("bootc container sign")';
  return [keys, ...(verity === "none" ? [VERITY_NEED] : [])];
}

const OSTREE_NEEDS = [
  'Set "enabled = signed" in the group [composefs] of prepare-root.conf and put the binding key beside it, before the initramfs is built, and sign the commits with it (ed25519)',
];

const VERITY_NEED =
  "Install to a file system with fs-verity (ext4 with the feature verity, or btrfs)";

const SECURE_BOOT_NEEDS: Readonly<Record<SecureBoot, readonly string[]>> = {
  enabled: [],
  disabled: ["Turn on Secure Boot in the firmware's setup, or the shim's validation"],
  setup: ["Enrol the keys that signed the kernel: Secure Boot is in setup mode and checks nothing"],
  unsupported: ["Start the machine by UEFI with Secure Boot"],
};
