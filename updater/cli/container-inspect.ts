// `bootc container inspect` (bootc.md 10.2): kernel and kernel arguments of an unpacked image.

import { Command, Option } from "@commander-js/extra-typings";
import { readRootfsKargs } from "../container/rootfs-kargs.ts";
import { findRootfsKernel, requireRootfs } from "../container/rootfs-kernel.ts";
import { formatYaml } from "../output/yaml.ts";
import type { Terminal } from "./terminal.ts";

const LABEL_WIDTH = "Kernel:".length;

export function makeInspectCommand(terminal: Terminal) {
  return new Command("inspect")
    .description("Show the kernel and the kernel arguments of an unpacked image")
    .option("--rootfs <directory>", "the image's root", "/")
    .option("--json", "as JSON")
    .addOption(
      new Option("--format <format>", "output format")
        .choices(["humanreadable", "yaml", "json"] as const)
        .conflicts("json"),
    )
    .action(({ rootfs, json, format }) => {
      const root = requireRootfs(rootfs);
      const kernel = findRootfsKernel(root);
      const kargs = readRootfsKargs(root).map(({ text }) => text);
      if (json === true || (format ?? "humanreadable") !== "humanreadable") {
        const shown = kernel && { version: kernel.version, unified: kernel.isUnified };
        const found = { kargs, kernel: shown };
        if (format === "yaml") terminal.write(formatYaml(found));
        else terminal.line(JSON.stringify(found, null, 2));
        return;
      }
      const row = (label: string, value: string) =>
        terminal.line(`${`${label}:`.padStart(LABEL_WIDTH)} ${value}`);
      row("Kernel", kernel?.version ?? "<none>");
      if (kernel !== null) row("Type", kernel.isUnified ? "UKI" : "vmlinuz");
      row("Kargs", kargs.length === 0 ? "<none>" : kargs.join(" "));
    });
}
