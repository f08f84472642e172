// The command line of ostree's own program of this name: SYSROOT [KERNEL_CMDLINE] (ostree.md 1.1).

import { UsageError } from "../../shared/error.ts";

export interface OstreeProgramOptions {
  readonly sysroot: string;
  /** null: /proc/cmdline. */
  readonly cmdline: string | null;
}

export const OSTREE_HELP = `Usage: ostree-prepare-root SYSROOT [KERNEL_CMDLINE]

Mounts the ostree deployment that the kernel command line names over SYSROOT, where the root disk
is mounted. Runs in the initramfs; KERNEL_CMDLINE is for tests [default: /proc/cmdline].
`;

/** null means that help was asked for. */
export function parseOstreeArguments(argv: readonly string[]): OstreeProgramOptions | null {
  const [sysroot, cmdline] = argv;
  if (sysroot === "--help" || sysroot === "-h") return null;
  if (sysroot === undefined || sysroot === "" || argv.length > 2) {
    const found = argv.length === 0 ? "none" : `${argv.length} arguments`;
    throw new UsageError(
      "missing",
      `Expected SYSROOT and maybe a kernel command line, found ${found} (see --help)`,
    );
  }
  return { sysroot, cmdline: cmdline ?? null };
}
