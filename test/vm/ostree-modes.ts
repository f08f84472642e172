// The ways to start an ostree deployment that the tests go through: reference ostree.md, section 7.

import type { OstreeBootCase } from "./ostree-case.ts";
import { PUBLIC_KEY as KEY } from "./ostree-disk.ts";

export type OstreeMode = OstreeBootCase & {
  readonly name: string;
  /** What the root is mounted as, and words that its options have. */
  readonly root: readonly [type: string, ...options: string[]];
  /** Where one can write afterwards. */
  readonly writable: readonly string[];
  /** Debian's ostree knows no signatures, and refuses `verity` on the command line. */
  readonly peer: boolean;
  /** Takes `setup` back. */
  readonly undo?: string;
};

const CONFIG = (enabled: string, more = "") => `[composefs]\nenabled=${enabled}\n${more}`;
const KARG = "ostree.prepare-root.composefs=";
const UNLOCKED = `chattr -i $D; `;
const STATE = ["/etc", "/var"] as const;

export const MODES: readonly OstreeMode[] = [
  {
    name: "composefs",
    config: CONFIG("yes"),
    root: ["overlay", "ro"],
    writable: STATE,
    peer: true,
  },
  {
    name: "signed",
    config: CONFIG("signed"),
    key: KEY,
    root: ["overlay", "ro", "verity=require"],
    writable: STATE,
    peer: false,
  },
  {
    name: "signed by the command line",
    config: CONFIG("yes"),
    extra: `${KARG}signed`,
    key: KEY,
    root: ["overlay", "ro", "verity=require"],
    writable: STATE,
    peer: false,
  },
  {
    name: "verity",
    config: CONFIG("verity"),
    root: ["overlay", "ro", "verity=require"],
    writable: STATE,
    peer: true,
  },
  {
    name: "maybe, with an image",
    config: CONFIG("maybe"),
    root: ["overlay", "ro"],
    writable: [...STATE, "/sysroot"],
    peer: true,
  },
  {
    name: "maybe, without an image",
    config: CONFIG("maybe"),
    setup: `${UNLOCKED}mv $D/.ostree.cfs $D/hidden.cfs`,
    undo: "mv $D/hidden.cfs $D/.ostree.cfs",
    root: ["ext4", "rw"],
    writable: ["/", ...STATE, "/sysroot"],
    peer: true,
  },
  {
    name: "no composefs by the command line",
    config: CONFIG("yes"),
    extra: `${KARG}0`,
    root: ["ext4", "rw"],
    writable: [...STATE, "/sysroot"],
    peer: true,
  },
  {
    name: "an empty config",
    config: "",
    root: ["ext4", "rw"],
    writable: [...STATE, "/sysroot"],
    peer: true,
  },
  {
    name: "a read-only disk without composefs",
    config: "[sysroot]\nreadonly=true\n",
    root: ["ext4", "rw"],
    writable: STATE,
    peer: true,
  },
  {
    name: "a transient root",
    config: CONFIG("yes", "[root]\ntransient=true\n"),
    root: ["overlay", "rw"],
    writable: ["/", "/usr", ...STATE],
    peer: true,
  },
  {
    name: "a transient root, read-only",
    config: CONFIG("yes", "[root]\ntransient-ro=true\n"),
    root: ["overlay", "ro"],
    writable: STATE,
    peer: true,
  },
  {
    name: "a transient /etc",
    config: CONFIG("yes", "[etc]\ntransient=true\n"),
    root: ["overlay", "ro"],
    writable: STATE,
    peer: true,
  },
  {
    name: "a hotfix over /usr",
    config: CONFIG("yes"),
    setup: `${UNLOCKED}mkdir $D/.usr-ovl-upper $D/.usr-ovl-work; chmod 755 $D/.usr-ovl-upper`,
    undo: "rm -r $D/.usr-ovl-upper $D/.usr-ovl-work",
    root: ["overlay", "ro"],
    writable: ["/usr", ...STATE],
    peer: true,
  },
];
