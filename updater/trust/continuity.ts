// What a machine may become by an update without being told to (decision 0022). Pure.
//
// Never less than it is: where the running system has keys of its own, they must accept the new image, and
// something must check it when it starts. Where only the firmware's keys stand for what runs (sealed images,
// and those with a key of their own), the next one must be such an image, too: the firmware then judges it.

import type { ImageTrust } from "./image-trust.ts";

/**
 * Why `image` is less than what runs, as the end of a sentence about it; null: it is not. `refusal`: why the
 * running system's keys do not accept it, or null.
 */
export function findWeakening(
  running: ImageTrust,
  image: ImageTrust,
  refusal: string | null,
): string | null {
  if (running.form === "unlocked") return null;
  if (running.hasLastingKeys && refusal !== null) return refusal;
  const checksNothing = image.form === "unlocked";
  if (checksNothing) {
    return `nothing would check it when it starts, and the running system is ${describeForm(running)}`;
  }
  if (running.unified && !image.unified) {
    return "its kernel and initramfs are separate files, which Secure Boot does not check, and the running system has a unified kernel";
  }
  return null;
}

function describeForm({ form }: ImageTrust): string {
  return form === "sealed" ? "sealed" : "signed";
}
