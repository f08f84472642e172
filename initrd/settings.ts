// setup-root-conf.toml: what becomes of /, /etc and /var (bootc.md 5.3).
//
// The file lies in the initramfs, so it is as trusted as the kernel. A missing file means defaults;
// a malformed one is refused, because it could say "transient". Unknown keys are ignored, as bootc does.

import parseToml from "@iarna/toml/parse-string.js";
import { FormatError } from "../shared/error.ts";

/** none: what the image has; bind: the deployment's own directory; transient: gone at reboot. */
export type MountKind = "none" | "bind" | "overlay" | "transient";

export interface Settings {
  readonly rootTransient: boolean;
  /** null: not set. */
  readonly etc: MountKind | null;
  readonly var: MountKind | null;
}

export const DEFAULT_SETTINGS: Settings = { rootTransient: false, etc: null, var: null };

const MOUNT_KINDS: ReadonlyMap<unknown, MountKind> = new Map<unknown, MountKind>([
  ["none", "none"],
  ["root", "none"],
  ["bind", "bind"],
  ["overlay", "overlay"],
  ["transient", "transient"],
  ["volatile", "transient"],
]);

/** `path` is for messages only. FormatError when it is no TOML or a value is wrong. */
export function parseSettings(text: string, path: string): Settings {
  let document: Record<string, unknown>;
  try {
    document = parseToml(text);
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0];
    throw new FormatError("bad-value", `Cannot read "${path}": ${reason?.replace(/:$/, "")}`, {
      format: "toml",
      path,
    });
  }
  const root = readTable(document, "root", path);
  return {
    rootTransient: readFlag(root, "transient"),
    etc: readMountKind(readTable(document, "etc", path)),
    var: readMountKind(readTable(document, "var", path)),
  };
}

/** One table of the file, with what complaints about it need. */
interface Table {
  readonly values: Readonly<Record<string, unknown>>;
  readonly name: string;
  readonly path: string;
}

function readTable(document: Record<string, unknown>, name: string, path: string): Table {
  const values = document[name] ?? {};
  if (typeof values !== "object" || Array.isArray(values)) {
    throw wrong({ name, path }, "", "must be a table");
  }
  return { values: values as Record<string, unknown>, name, path };
}

function readFlag(table: Table, key: string): boolean {
  const value = table.values[key] ?? false;
  if (typeof value !== "boolean") throw wrong(table, ` ${key}`, "must be true or false");
  return value;
}

/** `mount` wins over `transient`. */
function readMountKind(table: Table): MountKind | null {
  const transient = readFlag(table, "transient");
  const value = table.values["mount"];
  if (value === undefined) return transient ? "transient" : null;
  const kind = MOUNT_KINDS.get(value);
  if (kind === undefined) {
    throw wrong(table, " mount", `must be one of ${[...MOUNT_KINDS.keys()].join(", ")}`);
  }
  return kind;
}

function wrong(table: Omit<Table, "values">, what: string, rule: string): FormatError {
  return new FormatError("bad-value", `"${table.path}": [${table.name}]${what} ${rule}`, {
    format: "toml",
    path: table.path,
  });
}
