// Carrying out a pin: one empty file.

import { applySteps } from "../../shared/txn/apply.ts";
import type { System } from "../boot/system.ts";
import type { PinPlan } from "./pin-plan.ts";
import { statePaths } from "./state-directory.ts";

export function applyPin({ physicalRoot }: System, { id, pinned, changes }: PinPlan): void {
  if (!changes) return;
  const path = statePaths(physicalRoot, id).pin;
  applySteps([
    pinned
      ? { kind: "write", path, bytes: new Uint8Array(), mode: 0o644 }
      : { kind: "remove", path },
  ]);
}
