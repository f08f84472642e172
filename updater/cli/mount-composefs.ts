// `mount.composefs [-t composefs] [-o OPTIONS] IMAGE MOUNTPOINT`, also the way mount(8) calls its helpers:
// `mount.composefs IMAGE MOUNTPOINT [-sfnv] -o OPTIONS`.

import { StateError, UsageError } from "../../shared/error.ts";
import { mountImage } from "../composefs/image-mount.ts";
import { parseMountOptions } from "../composefs/mount-options.ts";
import { parseWords } from "./getopt.ts";
import { writeErr } from "./standard-stream.ts";

export const MOUNT_COMPOSEFS_USAGE = `Usage: mount.composefs [-t composefs] [-o OPTION[,OPTION...]] IMAGE MOUNTPOINT
  basedir=PATH[:PATH]...  where the objects are
  digest=HEX              the image must have this fs-verity digest; implies verity
  verity                  every file must have the fs-verity digest that the image says
  tryverity               the same where the kernel can check it
  ro, rw                  read-only; writable (the default) takes upperdir and workdir
  nosuid, nodev, noexec   as for every file system
  upperdir=, workdir=     where overlayfs keeps changes
  idmap=PATH              give the image the ID mapping of this user namespace
`;

/** mount(8) may pass sloppy, fake, no-mtab and verbose. */
const OPTIONS = {
  h: "flag",
  t: "value",
  o: "value",
  s: "flag",
  f: "flag",
  n: "flag",
  v: "flag",
} as const;

export function runMountComposefs(argv: readonly string[]): number {
  const { options, operands } = parseWords(argv, OPTIONS);
  const given = new Map(options);
  if (given.has("h")) {
    writeErr(MOUNT_COMPOSEFS_USAGE);
    return 0;
  }
  const type = given.get("t") ?? "composefs";
  if (type !== "composefs") throw new UsageError("bad-value", `Unsupported fs type "${type}"`);
  const [image, target] = operands;
  if (image === undefined) throw new UsageError("missing", "No source path specified");
  if (target === undefined) throw new UsageError("missing", "No mount path specified");
  const mountOptions = parseMountOptions(given.get("o") ?? "");
  if (given.has("f")) return 0;
  try {
    mountImage(image, target, mountOptions);
  } catch (cause) {
    throw new StateError("command-failed", `Cannot mount composefs "${image}"`, {}, { cause });
  }
  return 0;
}
