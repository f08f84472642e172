// The options of mount.composefs: `-o key,key=value,…`, where a backslash takes the next character as it
// is.

import { UsageError } from "../../shared/error.ts";
import { MOUNT_ATTR } from "../../shared/sys/constants.ts";

export interface MountOptions {
  /** Where the objects are; at least one. */
  readonly basedirs: readonly string[];
  /** Lower-case hex the image must measure. */
  readonly digest: string | null;
  /** Whether every file must have the fs-verity digest the image says. */
  readonly verity: "require" | "try" | "off";
  /** MOUNT_ATTR bits of the mount: ro, nosuid, nodev, noexec. */
  readonly attributes: number;
  /** Writable layer over the image. */
  readonly upper: { readonly upperdir: string; readonly workdir: string } | null;
  /** A user namespace's file, e.g. /proc/PID/ns/user, whose ID mapping the image gets. */
  readonly idmap: string | null;
}

const WITH_VALUE = ["basedir", "digest", "upperdir", "workdir", "idmap"];
const FLAGS = ["verity", "tryverity"];
/** Words that mount(8) knows for every file system; fstab's "defaults" never gets here. */
const ATTRIBUTES: Readonly<Record<string, { readonly bit: number; readonly isSet: boolean }>> = {
  ro: { bit: MOUNT_ATTR.RDONLY, isSet: true },
  rw: { bit: MOUNT_ATTR.RDONLY, isSet: false },
  nosuid: { bit: MOUNT_ATTR.NOSUID, isSet: true },
  suid: { bit: MOUNT_ATTR.NOSUID, isSet: false },
  nodev: { bit: MOUNT_ATTR.NODEV, isSet: true },
  dev: { bit: MOUNT_ATTR.NODEV, isSet: false },
  noexec: { bit: MOUNT_ATTR.NOEXEC, isSet: true },
  exec: { bit: MOUNT_ATTR.NOEXEC, isSet: false },
};

/** Later options win. Throws UsageError. */
export function parseMountOptions(text: string): MountOptions {
  const values = new Map<string, string>();
  let attributes = 0;
  for (const [key, value] of text === "" ? [] : splitOptions(text)) {
    const attribute = Object.hasOwn(ATTRIBUTES, key) ? ATTRIBUTES[key] : undefined;
    if (WITH_VALUE.includes(key)) {
      if (value === null) throw new UsageError("missing", `Option "${key}" needs a value`);
      values.set(key, value);
    } else if (FLAGS.includes(key)) {
      values.set(key, "");
    } else if (attribute !== undefined) {
      attributes = attribute.isSet ? attributes | attribute.bit : attributes & ~attribute.bit;
    } else {
      throw new UsageError("unknown-option", `Unsupported option "${key}"`);
    }
  }
  return makeOptions(values, attributes);
}

function makeOptions(values: ReadonlyMap<string, string>, attributes: number): MountOptions {
  const basedir = values.get("basedir");
  if (basedir === undefined) throw new UsageError("missing", 'Option "basedir" is missing');
  const basedirs = basedir.split(":");
  if (basedirs.includes("")) {
    throw new UsageError("bad-value", `Option "basedir" has an empty path: "${basedir}"`);
  }
  const upperdir = values.get("upperdir");
  const workdir = values.get("workdir");
  if ((upperdir === undefined) !== (workdir === undefined)) {
    throw new UsageError("conflict", 'Options "upperdir" and "workdir" need each other');
  }
  const digest = values.get("digest")?.toLowerCase() ?? null;
  const isRequired = values.has("verity") || digest !== null;
  return {
    basedirs,
    digest: digest === null ? null : checkDigest(digest),
    verity: isRequired ? "require" : values.has("tryverity") ? "try" : "off",
    attributes,
    upper: upperdir === undefined || workdir === undefined ? null : { upperdir, workdir },
    idmap: values.get("idmap") ?? null,
  };
}

function checkDigest(digest: string): string {
  if (/^([0-9a-f]{64}|[0-9a-f]{128})$/.test(digest)) return digest;
  throw new UsageError("bad-value", `"${digest}" is no fs-verity digest in hex`);
}

/** Splits at commas that no backslash protects; only values lose their backslashes. */
function splitOptions(text: string): [string, string | null][] {
  const words = text.match(/(?<=^|,)(?:\\.|[^,\\]|\\$)*/gs) ?? [];
  return words.map((word) => {
    const match = /^((?:\\.|[^=\\])*)=(.*)$/s.exec(word);
    return match === null ? [word, null] : [match[1]!, match[2]!.replace(/\\(.?)/gs, "$1")];
  });
}
