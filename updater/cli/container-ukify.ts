// `bootc container ukify` (bootc.md 10.4).

import { resolve } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { UsageError } from "../../shared/error.ts";
import { requireRootfs } from "../container/rootfs-kernel.ts";
import { planRootfsUki, requireDumpOutside, requireOutput } from "../container/rootfs-uki.ts";
import { requireUkify, runUkify } from "../container/ukify.ts";
import { writeDumpFile } from "./container-digest.ts";
import { collectText } from "./container-text.ts";
import { formatPlan } from "./plan-text.ts";
import type { Terminal } from "./terminal.ts";

export function makeUkifyCommand(terminal: Terminal) {
  return new Command("ukify")
    .description(
      "Make a unified kernel that starts exactly the unpacked image, with systemd's ukify",
    )
    .option("--rootfs <directory>", "the image's root", "/")
    .option("--kernel-dir <directory>", "what split-kernel-and-rootfs made: OUTPUT/<release>")
    .option("--allow-missing-verity", "for file systems without fs-verity; much weaker")
    .option("--write-dumpfile-to <file>", "also write what the image has in it, as a dump")
    .addOption(
      new Option("--karg <arguments>", "kernel arguments of this kernel only; may be repeated")
        .argParser(collectText)
        .default([] as readonly string[], "none"),
    )
    .option("--dry-run", "only print what would be run, as JSON")
    .argument("[arguments...]", "after --, for ukify, e.g. --output FILE; relative to the root")
    .action((more, options) => {
      const rootfs = requireRootfs(options.rootfs);
      if (rootfs === "/") {
        throw new UsageError(
          "bad-value",
          'The running root cannot be measured, it changes meanwhile; mount the image and name it with "--rootfs"',
        );
      }
      if (options.dryRun !== true) {
        requireOutput(rootfs, more);
        if (options.writeDumpfileTo !== undefined) {
          requireDumpOutside(rootfs, options.writeDumpfileTo);
        }
        requireUkify();
      }
      const { kernelDir } = options;
      const plan = planRootfsUki({
        rootfs,
        kernelDirectory: kernelDir === undefined ? null : resolve(kernelDir),
        allowMissingVerity: options.allowMissingVerity === true,
        kargs: options.karg,
        more,
      });
      const { digest, cmdline, args } = plan;
      if (options.dryRun === true) {
        terminal.write(formatPlan({ kind: "ukify", digest, cmdline, directory: rootfs, args }));
        return;
      }
      if (options.writeDumpfileTo !== undefined) writeDumpFile(options.writeDumpfileTo, plan.tree);
      terminal.write(runUkify(args, rootfs));
    });
}
