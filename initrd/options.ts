// prepare-root's own command line, which is that of bootc's initramfs-setup (bootc.md 5.1).
//
// Words without dashes ("setup-root") are accepted and ignored, as there.

import { UsageError } from "../shared/error.ts";
import { TPM_PATH } from "../shared/trust/floor.ts";

export interface Options {
  /** Where the physical root is mounted. */
  readonly sysroot: string;
  /** setup-root-conf.toml; may be missing. */
  readonly config: string;
  /** A directory to use instead of the composefs image (tests). */
  readonly rootFs: string | null;
  /** null: /proc/cmdline. */
  readonly cmdline: string | null;
  /** Where the new root is attached; null: on `sysroot` itself. */
  readonly target: string | null;
  /** /run: scratch mounts and what the booted system may want to know. */
  readonly run: string;
  /** The trust directory; may be missing. */
  readonly trust: string;
  /** The TPM's device; may be missing. */
  readonly tpm: string;
  /** The mounted EFI system partition; null: it is looked for. */
  readonly esp: string | null;
}

export const DEFAULT_OPTIONS: Options = {
  sysroot: "/sysroot",
  config: "/usr/lib/composefs/setup-root-conf.toml",
  rootFs: null,
  cmdline: null,
  target: null,
  run: "/run",
  trust: "/usr/lib/bootc/trust",
  tpm: TPM_PATH,
  esp: null,
};

export const HELP = `Usage: prepare-root [setup-root] [OPTIONS]

Mounts the deployment that the kernel command line names (composefs=, else ostree=). Runs in the
initramfs; the options are for tests and for soft reboots.

  --sysroot DIR    the mounted physical root [default: ${DEFAULT_OPTIONS.sysroot}]
  --config FILE    settings [default: ${DEFAULT_OPTIONS.config}]
  --root-fs DIR    a directory to use as the root instead of the image
  --cmdline TEXT   instead of /proc/cmdline
  --target DIR     where the new root goes [default: on the sysroot]
  --run DIR        for scratch mounts and results [default: ${DEFAULT_OPTIONS.run}]
  --trust DIR      keys and revocations [default: ${DEFAULT_OPTIONS.trust}]
  --tpm DEVICE     where a version floor may be kept [default: ${DEFAULT_OPTIONS.tpm}]
  --esp DIR        the EFI system partition [default: looked for when keys are there]
  --help
`;

const NAMES: ReadonlyMap<string, keyof Options> = new Map([
  ["--sysroot", "sysroot"],
  ["--config", "config"],
  ["--root-fs", "rootFs"],
  ["--cmdline", "cmdline"],
  ["--target", "target"],
  ["--run", "run"],
  ["--trust", "trust"],
  ["--tpm", "tpm"],
  ["--esp", "esp"],
]);

/** null means that help was asked for. UsageError for unknown options and missing values. */
export function parseOptions(argv: readonly string[]): Options | null {
  const given: Partial<Record<keyof Options, string>> = {};
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index]!;
    if (word === "--help" || word === "-h") return null;
    if (!word.startsWith("-")) continue;
    const equals = word.indexOf("=");
    const flag = equals < 0 ? word : word.slice(0, equals);
    const name = NAMES.get(flag);
    if (name === undefined) throw new UsageError("unknown-option", `Unknown option "${flag}"`);
    const value = equals < 0 ? argv[++index] : word.slice(equals + 1);
    if (value === undefined) throw new UsageError("missing", `Option "${flag}" needs a value`);
    given[name] = value;
  }
  return { ...DEFAULT_OPTIONS, ...given };
}
