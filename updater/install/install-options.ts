// The options of an installation together with what `bootc/install/*.toml` says (bootc.md 3.2, 9.6); options count
// before the configuration. Pure.
//
// bootc's composefs backend ignores most of that configuration; here it counts as on ostree: its arguments come
// before those of --karg, and may be deleted by either side, where those of --karg stay.

import { UnsupportedError } from "../../shared/error.ts";
import { formatCmdline, hasParameter } from "../../shared/format/kargs/cmdline.ts";
import type { InstallConfig } from "./install-config.ts";
import { type ArgumentOptions, deleteParameters, parseKarg } from "./install-plan.ts";

export interface GivenOptions extends ArgumentOptions {
  /** Null: not given, as in the next ones. */
  readonly bootloader: "systemd" | "none" | null;
  readonly stateroot: string | null;
  readonly enforceSigpolicy: boolean | null;
}

export interface InstallOptions extends ArgumentOptions {
  readonly bootloader: "systemd" | "none";
  readonly enforceSigpolicy: boolean;
}

const FILES = "bootc/install/*.toml";

/** UnsupportedError for what this program cannot install, UsageError for arguments that are none. */
export function mergeInstallOptions(
  given: GivenOptions,
  config: InstallConfig | null,
): InstallOptions {
  const stateroot = given.stateroot ?? config?.stateroot ?? "default";
  if (stateroot !== "default") {
    throw new UnsupportedError(
      "feature",
      `The composefs backend has one stateroot, "default", not "${stateroot}"${source(given.stateroot)}`,
    );
  }
  const kargDeletes = [...(config?.["karg-deletes"] ?? []), ...given.kargDeletes];
  return {
    kargs: [...keepArguments(config?.kargs ?? [], kargDeletes, given.kargs), ...given.kargs],
    kargDeletes,
    rootMountSpec: given.rootMountSpec ?? config?.["root-mount-spec"] ?? null,
    bootMountSpec: given.bootMountSpec ?? config?.["boot-mount-spec"] ?? null,
    bootloader: given.bootloader ?? supportedLoader(config?.bootloader ?? "systemd"),
    enforceSigpolicy: given.enforceSigpolicy ?? config?.["enforce-container-sigpolicy"] ?? false,
  };
}

/** The configuration's arguments less what is deleted; what --karg says as well comes from there. */
function keepArguments(
  kargs: readonly string[],
  deletes: readonly string[],
  own: readonly string[],
): readonly string[] {
  const parsed = kargs.flatMap((text) => parseKarg(`${FILES}: kargs`, text));
  const given = own.flatMap((text) => parseKarg("--karg", text));
  const gone = deletes.flatMap((text) =>
    parseKarg(`--karg-delete or ${FILES}: karg-deletes`, text),
  );
  const kept = deleteParameters(parsed, gone).filter((each) => !hasParameter(given, each));
  return kept.length === 0 ? [] : [formatCmdline(kept)];
}

function supportedLoader(name: NonNullable<InstallConfig["bootloader"]>): "systemd" | "none" {
  if (name === "systemd" || name === "none") return name;
  throw new UnsupportedError(
    "feature",
    `The image's ${FILES} asks for the boot loader "${name}", which cannot be installed here: choose with --bootloader systemd, ` +
      "or --bootloader none and install that one yourself",
  );
}

function source(option: string | null): string {
  return option === null ? ` (from the image's ${FILES}; --stateroot default overrides it)` : "";
}
