// What the kernel command line says to ostree (ostree.md 1.1).
//
// Words are split at spaces only and quotes mean nothing; the first of equal keys counts. That differs
// from the kernel's own rules, but boot entries are written for ostree's.

import { FormatError } from "../../shared/error.ts";

/** The slots of Android boot loaders; each is a symlink to a deployment. */
const ANDROID_SLOTS: ReadonlyMap<string, string> = new Map([
  ["_a", "/ostree/root.a"],
  ["_b", "/ostree/root.b"],
]);
const ANDROID_PREFIX = "androidboot.";

/** The value of the first `key=` word, or null. */
export function findArgument(cmdline: string, key: string): string | null {
  const word = wordsOf(cmdline).find((other) => other.startsWith(`${key}=`));
  return word === undefined ? null : word.slice(key.length + 1);
}

/** An Android boot loader has started this machine; then `ostree=` counts for nothing. */
export function isAndroidBoot(cmdline: string): boolean {
  return wordsOf(cmdline).some((word) => word.startsWith(ANDROID_PREFIX));
}

/** Path on the root disk of the symlink to the deployment, or null. FormatError for an unknown slot. */
export function findOstreeTarget(cmdline: string): string | null {
  const slot = findArgument(cmdline, `${ANDROID_PREFIX}slot_suffix`);
  if (slot !== null) {
    const target = ANDROID_SLOTS.get(slot);
    if (target !== undefined) return target;
    throw new FormatError(
      "bad-value",
      `Kernel argument "${ANDROID_PREFIX}slot_suffix=${slot}" is malformed: expected _a or _b`,
      { format: "cmdline" },
    );
  }
  // A device without slots has one deployment to start.
  if (isAndroidBoot(cmdline)) return "/ostree/root.a";
  return findArgument(cmdline, "ostree") || null;
}

function wordsOf(cmdline: string): readonly string[] {
  return cmdline.split("\n", 1)[0]!.split(" ");
}
