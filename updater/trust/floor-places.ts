// Where the version floor of an image lies on this machine: its TPM, and its EFI system partition (decisions 0019,
// 0022). The initramfs looks in the same places when it starts the image (initrd/trust.ts).
//
// Invariant: what only the key of one image has signed is not looked for on the partition, nor written there. That
// key dies with its image, so the next one could not believe it.

import { type Floor, type FloorPlaces, readFloor } from "../../shared/trust/floor.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import type { System } from "../boot/system.ts";
import type { ImageTrust } from "./image-trust.ts";
import { findTpm } from "./secure-boot.ts";

export interface FloorMachine {
  readonly system: System;
  readonly layout: BootLayout;
  /** False for a disk that goes to another machine, with which this one's TPM has nothing to do. */
  readonly isForThisMachine: boolean;
}

export function findFloorPlaces(
  { isForThisMachine, layout, system }: FloorMachine,
  { anchors, hasLastingKeys }: Pick<ImageTrust, "anchors" | "hasLastingKeys">,
): FloorPlaces {
  return {
    tpmPath: isForThisMachine ? findTpm(system) : null,
    espPath: hasLastingKeys ? layout.ukiPath : null,
    anchors,
  };
}

/** Null where the image wants no signatures, so that no floor counts. */
export function readImageFloor(machine: FloorMachine, trust: ImageTrust): Floor | null {
  return trust.anchors.signed ? readFloor(findFloorPlaces(machine, trust)) : null;
}
