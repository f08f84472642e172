// What an image says about its own installation: `bootc/install/*.toml` (bootc.md 3.2).
//
// A file in a later place hides one of the same name in an earlier; then they count in the order of their names: later
// values win, lists of kernel arguments are joined. Unknown keys are errors, as in bootc. Keys keep their names.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { parse } from "@iarna/toml";
import * as z from "zod";
import { FormatError, isErrno } from "../../shared/error.ts";
import { rustArchitecture } from "../../shared/format/kargs/kargs-d.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";

/** From the lowest to the highest. */
const BASES = ["usr/lib", "usr/local/lib", "etc", "run"];
const DIRECTORY = "bootc/install";
const SIZE_LIMIT_BYTES = 1 << 20;

const fileSystem = z.enum(["xfs", "ext4", "btrfs"]);
const installTable = z
  .strictObject({
    /** An older spelling of filesystem.root.type. */
    "root-fs-type": fileSystem,
    block: z.array(z.enum(["direct", "tpm2-luks"])),
    filesystem: z.strictObject({ root: z.strictObject({ type: fileSystem }).partial() }).partial(),
    kargs: z.array(z.string()),
    "karg-deletes": z.array(z.string()),
    /** Of the file: others skip it. */
    "match-architectures": z.array(z.string()),
    stateroot: z.string(),
    /** "": no argument. */
    "root-mount-spec": z.string(),
    "boot-mount-spec": z.string(),
    bootloader: z.enum(["grub", "grub-cc", "systemd", "none"]),
    "discoverable-partitions": z.boolean(),
    /** Images are only followed when a policy that asks for signatures accepts them. */
    "enforce-container-sigpolicy": z.boolean(),
    ostree: z.strictObject({ "bls-append-except-default": z.string() }).partial(),
    bootupd: z.strictObject({ "skip-boot-uuid": z.boolean() }).partial(),
  })
  .partial();
const fileSchema = z.strictObject({ install: installTable.optional() });

/** The `[install]` table. */
export type InstallConfig = Readonly<z.infer<typeof installTable>>;

/** `root` is where /usr and /etc are; null when no file of this architecture says anything. FormatError naming the file. */
export function readInstallConfig(root: string): InstallConfig | null {
  const files = new Map<string, string>();
  for (const base of BASES) {
    const directory = join(root, base, DIRECTORY);
    for (const name of listIfThere(directory)) {
      if (name.endsWith(".toml")) files.set(name, join(directory, name));
    }
  }
  const own = rustArchitecture(process.arch);
  const tables = [...files.keys()]
    .sort()
    .map((name) => readConfigFile(files.get(name)!))
    .filter((table) => table?.["match-architectures"]?.includes(own) !== false)
    .filter((table) => table !== undefined);
  return tables.length === 0 ? null : settleFileSystem(tables.reduce(mergeTables));
}

function mergeTables(earlier: InstallConfig, next: InstallConfig): InstallConfig {
  const { "match-architectures": _, ...later } = next;
  const joined = (key: "kargs" | "karg-deletes") => {
    const words = [...(earlier[key] ?? []), ...(later[key] ?? [])];
    return words.length === 0 ? {} : { [key]: words };
  };
  const merged = <T extends object>(a: T | undefined, b: T | undefined) => ({ ...a, ...b });
  return {
    ...earlier,
    ...later,
    ...joined("kargs"),
    ...joined("karg-deletes"),
    ...((earlier.filesystem ?? later.filesystem) && {
      filesystem: { root: merged(earlier.filesystem?.root, later.filesystem?.root) },
    }),
    ...((earlier.ostree ?? later.ostree) && { ostree: merged(earlier.ostree, later.ostree) }),
    ...((earlier.bootupd ?? later.bootupd) && { bootupd: merged(earlier.bootupd, later.bootupd) }),
  };
}

/** Both spellings say the same afterwards, and there is a way to set up disks. */
function settleFileSystem(config: InstallConfig): InstallConfig {
  const type = config.filesystem?.root?.type ?? config["root-fs-type"];
  return {
    ...config,
    block: config.block ?? ["direct"],
    ...(type !== undefined && { "root-fs-type": type, filesystem: { root: { type } } }),
  };
}

function readConfigFile(path: string): InstallConfig | undefined {
  const fail = (what: string, cause?: unknown): never => {
    throw new FormatError("bad-value", `Install config "${path}" ${what}`, { path }, { cause });
  };
  let value: unknown;
  try {
    value = parse(readSmallText(path, SIZE_LIMIT_BYTES) ?? "");
  } catch (cause) {
    return fail("cannot be read", cause);
  }
  const result = fileSchema.safeParse(value);
  if (result.success) return result.data.install;
  const [issue] = result.error.issues;
  return fail(`is wrong at "${issue?.path.join(".")}": ${issue?.message}`);
}

function listIfThere(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}
