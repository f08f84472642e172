// `bootc install print-configuration`: what an image says about its own installation, for programs that make
// partitions and file systems before `install to-filesystem` (bootc.md 3.2).

import { Command } from "@commander-js/extra-typings";
import { type InstallConfig, readInstallConfig } from "../install/install-config.ts";
import { formatCanonicalJson } from "../output/json.ts";
import type { Terminal } from "./terminal.ts";

/** As bootc prints them: null when nothing is set. */
const KEYS = [
  ...["block", "boot-mount-spec", "bootloader", "bootupd", "discoverable-partitions"],
  ...["enforce-container-sigpolicy", "filesystem", "match-architectures", "ostree"],
  ...["root-fs-type", "root-mount-spec", "stateroot"],
];

export function makePrintConfigurationCommand(terminal: Terminal) {
  return new Command("print-configuration")
    .description("Print what bootc/install/*.toml says, as JSON, for programs that set up disks")
    .option("--all", "also what to-filesystem applies itself: kernel arguments")
    .action((options) => {
      const document = describeConfig(readInstallConfig("/") ?? {}, options.all === true);
      terminal.write(`${formatCanonicalJson(document)}\n`);
    });
}

function describeConfig(config: InstallConfig, all: boolean): object {
  const { kargs, "karg-deletes": deletes, ...rest } = config;
  return {
    ...Object.fromEntries(KEYS.map((key) => [key, null])),
    ...rest,
    ...(all && kargs !== undefined && { kargs }),
    ...(all && deletes !== undefined && { "karg-deletes": deletes }),
  };
}
