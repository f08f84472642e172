// The program `bootc`: its command tree, and the only place of the updater that prints and knows exit
// codes (bootc.md 1.1): 0 done, 1 failed with "error: <chain>" on stderr, 2 wrong usage.
//
// `--help` and `--version` touch nothing, so they work for everybody.

import { isatty } from "node:tty";
import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import packageJson from "../../package.json" with { type: "json" };
import { describeError, UsageError } from "../../shared/error.ts";
import { showControls } from "../output/visible-text.ts";
import { makeConfigDiffCommand } from "./config-diff.ts";
import { makeContainerCommand } from "./container.ts";
import { makeDeleteCommand } from "./delete-deployment.ts";
import { makeEditCommand } from "./edit.ts";
import { makeEtcCommand } from "./etc.ts";
import { makeFinalizeCommand } from "./finalize.ts";
import { makeInstallCommand } from "./install.ts";
import { makeInternalsCommand } from "./internals.ts";
import { makeKargsCommand } from "./kargs.ts";
import { makeLoaderEntriesCommand } from "./loader-entries.ts";
import { makePinCommand } from "./pin.ts";
import { makeRollbackCommand } from "./rollback.ts";
import { STDERR, STDOUT, writeErr, writeOut } from "./standard-stream.ts";
import { makeStatusCommand } from "./status.ts";
import { makeSwitchCommand } from "./switch.ts";
import type { Terminal } from "./terminal.ts";
import { makeUpgradeCommand } from "./upgrade.ts";
import { makeUsrOverlayCommand } from "./usr-overlay.ts";

const WIDTH_WITHOUT_TERMINAL = 80;

/** Runs one command line (without the program's own name); returns the exit code. */
export async function runBootc(argv: readonly string[]): Promise<number> {
  const program = makeProgram({
    write: writeOut,
    line: (text) => writeOut(`${showControls(text)}\n`),
    note: (text) => writeErr(`${showControls(text)}\n`),
    progress: writeErr,
    columns: isatty(STDERR) ? terminalColumns() : null,
    isInteractive: isatty(STDOUT),
  });
  try {
    requireText(argv);
    await program.parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    complain(describeError(error));
    return error instanceof UsageError ? 2 : 1;
  }
}

/** Bytes that are not UTF-8 arrive as U+FFFD; what they stood for, e.g. a path, is lost. */
function requireText(argv: readonly string[]): void {
  const garbled = argv.find((word) => word.includes("\ufffd"));
  if (garbled === undefined) return;
  throw new UsageError("bad-value", `The argument "${garbled}" is not valid UTF-8`);
}

export function makeProgram(terminal: Terminal) {
  const program = new Command("bootc")
    .description("Deploy and update a machine from bootable container images")
    .version(`bootc ${packageJson.version}`, "-V, --version")
    // "--version" behind a verb is the verb's own.
    .enablePositionalOptions()
    .addCommand(makeUpgradeCommand(terminal))
    .addCommand(makeSwitchCommand(terminal))
    .addCommand(makeRollbackCommand(terminal))
    .addCommand(makeEditCommand(terminal))
    .addCommand(makeStatusCommand(terminal))
    .addCommand(makeEtcCommand(terminal))
    .addCommand(makeConfigDiffCommand(terminal))
    .addCommand(makePinCommand(terminal))
    .addCommand(makeDeleteCommand(terminal))
    .addCommand(makeKargsCommand(terminal))
    .addCommand(makeLoaderEntriesCommand(terminal))
    .addCommand(makeUsrOverlayCommand(terminal))
    .addCommand(makeInstallCommand(terminal))
    .addCommand(makeContainerCommand(terminal))
    .addCommand(makeFinalizeCommand(terminal))
    .addCommand(makeInternalsCommand(terminal), { hidden: true });
  for (const command of withSubcommands(program)) {
    command.exitOverride().configureOutput({
      writeOut,
      writeErr,
      // Commander's own would touch process.stdout; see terminalColumns.
      getOutHelpWidth: () => (isatty(STDOUT) ? terminalColumns() : WIDTH_WITHOUT_TERMINAL),
      getErrHelpWidth: () => (isatty(STDERR) ? terminalColumns() : WIDTH_WITHOUT_TERMINAL),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
      outputError: (text) => {
        const reason = text
          .replace(/^error: /, "")
          .trim()
          .replaceAll("\n", " ");
        complain(`${reason}; see "${fullName(command)} --help"`);
      },
    });
  }
  return program;
}

function fullName(command: CommandUnknownOpts): string {
  const { parent } = command;
  return parent === null ? command.name() : `${fullName(parent)} ${command.name()}`;
}

/** The one line that says what is wrong. */
function complain(text: string): void {
  const prefix = isatty(STDERR) ? "\u001b[31merror:\u001b[0m" : "error:";
  writeErr(`${prefix} ${showControls(text)}\n`);
}

/** process.stderr knows, but touching it makes a descriptor that others share non-blocking. */
function terminalColumns(): number {
  const columns = Number(process.env["COLUMNS"]);
  return Number.isInteger(columns) && columns > 0 ? columns : WIDTH_WITHOUT_TERMINAL;
}

function withSubcommands(command: CommandUnknownOpts): CommandUnknownOpts[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}
