// `bootc config-diff` and `bootc internals dir-diff`: local changes of /etc in bootc's lines
// (bootc.md 1.3, 6). `bootc etc status` says more.

import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { type ByteString, fromByteString } from "../../shared/format/tree/node.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { openMachineEtc, readDiff } from "../deploy/etc-machine.ts";
import { diffEtc, mergeEtc } from "../deploy/etc-merge.ts";
import type { EtcDiff } from "../deploy/etc-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatConfigDiff } from "../output/etc-text.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeConfigDiffCommand(terminal: Terminal) {
  return new Command("config-diff")
    .description("List what this machine changed in /etc, one change a line")
    .addOption(makeFormatOption())
    .action((options) => {
      using session = openSession("read", "etc");
      const { system, boot, booted } = session;
      const etc = openMachineEtc(session, observeWorld(system, boot, booted));
      if (etc.ruleProblem !== null) terminal.note(`warning: ${etc.ruleProblem}`);
      terminal.write(formatDiff(readDiff(etc), options.format, terminal));
    });
}

/** PRISTINE, CURRENT and NEW are directories as /etc is one; the merge is swapped in for NEW. */
export function makeDirDiffCommand(terminal: Terminal) {
  return new Command("dir-diff")
    .description("Compare or merge directories as it is done with /etc")
    .argument("<pristine>", "as the image had it")
    .argument("<current>", "as it is now")
    .argument("<new>", "as the new image has it")
    .addOption(makeFormatOption())
    .option("--merge", "carry the changes over into <new>")
    .action((pristine, current, next, options) => {
      const diff = diffEtc(pristine, current, next);
      terminal.write(formatDiff(diff, options.format, terminal));
      if (options.merge === true) mergeInto(pristine, current, next);
    });
}

function mergeInto(pristine: string, current: string, next: string): void {
  const target = realpathSync(next);
  const merged = join(dirname(target), `.${basename(target)}.partial`);
  mergeEtc(pristine, current, target, merged);
  applyTransaction({
    prepare: [],
    commit: { kind: "exchange", a: merged, b: target },
    cleanup: [{ kind: "remove", path: merged }],
  });
}

function makeFormatOption() {
  return new Option("--format <format>", "output format")
    .choices(["humanreadable", "json"] as const)
    .default("humanreadable" as const);
}

function formatDiff(diff: EtcDiff, format: "humanreadable" | "json", terminal: Terminal): string {
  if (format === "json") return `${formatCanonicalJson(describeDiff(diff))}\n`;
  return formatConfigDiff(diff, { colors: terminal.isInteractive });
}

function describeDiff({ added, modified, removed, dropped, held, conflicts }: EtcDiff): object {
  const texts = (paths: readonly ByteString[]) => paths.map(fromByteString);
  return {
    added: texts(added),
    modified: texts(modified),
    removed: texts(removed),
    dropped: texts(dropped),
    held: texts(held),
    conflicts: conflicts.map(({ path, reason }) => ({ path: fromByteString(path), reason })),
  };
}
