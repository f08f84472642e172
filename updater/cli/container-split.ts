// `bootc container split-kernel-and-rootfs` (bootc.md 10.3).

import { resolve } from "node:path";
import { Command } from "@commander-js/extra-typings";
import { requireRootfs } from "../container/rootfs-kernel.ts";
import { planSplit, splitKernel } from "../container/split-kernel.ts";
import { formatPlan } from "./plan-text.ts";
import type { Terminal } from "./terminal.ts";

export function makeSplitCommand(terminal: Terminal) {
  return new Command("split-kernel-and-rootfs")
    .description("Move kernel and initramfs out of an image's root, to OUTPUT/<release>/")
    .option("--rootfs <directory>", "the image's root", "/")
    .requiredOption("--output <directory>", "where they go; on the same file system")
    .option("--dry-run", "only print what would be done, as JSON")
    .action(({ rootfs, output, dryRun }) => {
      const plan = planSplit(requireRootfs(rootfs), resolve(output));
      if (dryRun === true) terminal.write(formatPlan({ kind: "split-kernel", ...plan }));
      else splitKernel(plan);
    });
}
