// `bootc switch TARGET`: follow another image from now on (bootc.md 1.2, 4.11).

import { isDeepStrictEqual } from "node:util";
import { Command, Option } from "@commander-js/extra-typings";
import { makeHostState } from "../deploy/host-state.ts";
import { updateImage } from "../deploy/update.ts";
import { observeWorld } from "../deploy/world.ts";
import { type ImageReference, makeImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { absoluteReference } from "./absolute-reference.ts";
import { makeObserver, makeProgressOption } from "./progress.ts";
import { rebootSystem } from "./reboot.ts";
import { openSession, rejectOstree } from "./session.ts";
import type { Terminal } from "./terminal.ts";
import { printOutcome } from "./update-text.ts";

export function makeSwitchCommand(terminal: Terminal) {
  return new Command("switch")
    .description("Stage another image and follow it from now on")
    .argument("<target>", "name of the image in its transport")
    .option("--quiet", "no progress")
    .option("--apply", "restart into the new image")
    .option("--transport <transport>", "where the image is found", "registry")
    .option("--retain", "keep the old image (it is kept as long as it can be rolled back to)")
    .option("--enforce-container-sigpolicy", "refuse images that policy.json does not cover")
    .addOption(new Option("--no-signature-verification").hideHelp())
    .addOption(makeProgressOption())
    .option("--dry-run", "fetch, but only print what would be done, as JSON")
    .action(async (target, options) => {
      rejectOstree("switch");
      const reference: ImageReference = {
        ...absoluteReference(makeImageReference(options.transport, target)),
        ...(options.enforceContainerSigpolicy === true && { signature: "containerPolicy" }),
      };
      await using source = openSource(reference);
      using session = openSession("write", "switch");
      const { system, boot, repo, booted } = session;
      const host = makeHostState(system, repo, observeWorld(system, boot.path, booted));
      const current = host.staged?.image ?? host.booted?.image ?? null;
      if (isDeepStrictEqual(current, reference)) {
        terminal.line("Image specification is unchanged.");
        if (options.apply === true && host.staged !== null) rebootSystem();
        return;
      }
      using observer = makeObserver(terminal, {
        quiet: options.quiet === true,
        progressFd: options.progressFd,
      });
      const outcome = await updateImage(
        session,
        booted,
        {
          kind: "switch",
          reference,
          source,
          checkOnly: false,
          downloadOnly: false,
          dryRun: options.dryRun === true,
        },
        observer,
      );
      printOutcome(terminal, outcome, reference, { checkOnly: false, downloadOnly: false });
      if (options.apply === true && outcome.kind === "staged") rebootSystem();
    });
}
