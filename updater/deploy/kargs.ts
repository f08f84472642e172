// Carrying out a change of kernel arguments. A live entry changes by one exchange of the entry directories, a
// staged one by replacing its file. What was only downloaded is staged again after the exchange; when that is
// interrupted, nothing is staged until the next upgrade.

import { dirname, join } from "node:path";
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import { menuPath } from "../boot/boot-menu.ts";
import type { Deployer } from "./deployer.ts";
import { replaceMenu, startMenuTrial, writeEntriesSteps } from "./entry-exchange.ts";
import type { KargsPlan } from "./kargs-plan.ts";
import { formatStagedFile, type StagedFile } from "./staged-file.ts";
import { stagedFilePath } from "./state-directory.ts";

/** `staged` is what the plan's world had. */
export function applyKargs(
  { system, boot }: Omit<Deployer, "repo">,
  { change }: KargsPlan,
  staged: StagedFile | null,
): void {
  if (change.kind === "nothing") return;
  if (change.kind === "staged") {
    const { fileName, text } = change.entry;
    applySteps([writeText(join(menuPath(boot, "staged"), fileName), text)]);
    return;
  }
  if (change.isCounted) startMenuTrial(system, boot, change.entries);
  replaceMenu(system, boot, change.entries, "texts");
  if (change.restage === null || staged === null) return;
  const path = stagedFilePath(system);
  applyTransaction({
    prepare: [
      ...writeEntriesSteps(boot, change.restage),
      { kind: "mkdir", path: dirname(path), mode: 0o755 },
    ],
    commit: writeText(path, formatStagedFile(staged)),
    cleanup: [],
  });
}
