// `bootc edit`, the thinking part: from the specification as it is to the one that is wanted (bootc.md
// 1.2). Pure.

import { isDeepStrictEqual } from "node:util";
import { StateError } from "../../shared/error.ts";
import type { ImageReference } from "../image/reference.ts";

export interface HostSpecification {
  readonly image: ImageReference | null;
  readonly bootOrder: "default" | "rollback";
}

export type EditPlan =
  | { readonly kind: "unchanged" }
  | { readonly kind: "switch"; readonly reference: ImageReference }
  /** Queues a rollback, or takes a queued one back. */
  | { readonly kind: "rollback" };

/** StateError for a change that cannot be made, in bootc's words. */
export function planEdit(current: HostSpecification, wanted: HostSpecification): EditPlan {
  const isSameImage = isDeepStrictEqual(current.image, wanted.image);
  const isSameOrder = current.bootOrder === wanted.bootOrder;
  if (isSameImage && isSameOrder) return { kind: "unchanged" };
  if (!isSameImage && !isSameOrder) {
    throw new StateError(
      "conflict",
      "Invalid state transition: rollback and image change; make one of them at a time",
    );
  }
  if (!isSameOrder) return { kind: "rollback" };
  if (wanted.image !== null) return { kind: "switch", reference: wanted.image };
  throw new StateError("missing", 'Missing image in specification ("spec.image")');
}
