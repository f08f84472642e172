// `bootc container …`: what is done to images while they are built (bootc.md 10).

import { Command } from "@commander-js/extra-typings";
import { makeDigestCommand, makeStorageDigestCommand } from "./container-digest.ts";
import { makeInspectCommand } from "./container-inspect.ts";
import { makeSealCommand } from "./container-seal.ts";
import { makeSignCommand } from "./container-sign.ts";
import { makeSplitCommand } from "./container-split.ts";
import { makeUkifyCommand } from "./container-ukify.ts";
import { makeVerifyCommand } from "./container-verify.ts";
import type { Terminal } from "./terminal.ts";

export function makeContainerCommand(terminal: Terminal) {
  return new Command("container")
    .description("Make, seal and check bootable images")
    .addCommand(makeInspectCommand(terminal))
    .addCommand(makeSplitCommand(terminal))
    .addCommand(makeDigestCommand(terminal))
    .addCommand(makeStorageDigestCommand(terminal))
    .addCommand(makeUkifyCommand(terminal))
    .addCommand(makeSealCommand(terminal))
    .addCommand(makeSignCommand(terminal))
    .addCommand(makeVerifyCommand(terminal));
}
