// What lies on the disk of the mount cases, for the test that makes the disk and the program in the guest.

import { BIG } from "./composefs-disk.ts";

/** Found again on the disk to damage what follows them. */
export const TAMPER_MARK = "This object will be changed on the disk. ";
export const DAMAGE_MARK = "This image will be changed on the disk.";

const fill = (text: string) => text.repeat(300);

/** Files of usr/share whose contents are objects. */
export const CONTENTS = {
  big: BIG,
  other: fill("Another object. "),
  /** Has fs-verity; one byte is changed behind the file system's back. */
  tampered: TAMPER_MARK + fill("It must not be read. "),
  /** Its object is another file, without fs-verity. */
  replaced: fill("The right content. "),
  /** Its object is right but without fs-verity. */
  unprotected: fill("Right, but not protected. "),
} as const;
export type ContentName = keyof typeof CONTENTS;

export const FORGED = "The wrong content. ".repeat(300);

/** A file whose content is in the image itself. */
export const SMALL = "small\n";

export interface DiskIds {
  /** The deployment that is whole. */
  readonly main: string;
  /** Its image is changed on the disk. */
  readonly damaged: string;
  /** As `main`, in format V2, which has nothing that hides the object store. */
  readonly v2: string;
  /** The name of a deployment whose image is `main`'s. */
  readonly wrong: string;
}
