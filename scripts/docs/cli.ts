// docs/cli.md from the command tree itself: every visible verb with its arguments and options.

import type { Command, Option } from "@commander-js/extra-typings";
import { makeProgram } from "../../updater/cli/program.ts";

const HEADER = `# Command line

Made by \`npm run docs\` from the command tree; do not edit. Exit codes: 0 done, 1 failed (one line on
stderr says why), 2 wrong usage.
`;

export function renderCliReference(): string {
  const ignore = () => {};
  const silent = {
    write: ignore,
    line: ignore,
    note: ignore,
    progress: ignore,
    columns: null,
    isInteractive: false,
  };
  const program = makeProgram(silent) as unknown as Command;
  return [HEADER, ...renderCommand(program, "")].join("\n");
}

function renderCommand(command: Command, parent: string): string[] {
  const help = command.createHelp();
  const name = `${parent} ${command.name()}`.trim();
  const subcommands = help.visibleCommands(command as never) as unknown as Command[];
  const real = subcommands.filter((subcommand) => subcommand.name() !== "help");
  const title = parent === "" ? [] : [`## ${name}\n`, `${command.description()}.\n`];
  const usage = `\`\`\`\n${name} ${command.usage()}\n\`\`\`\n`;
  const aliases = command.aliases().map((alias) => `\`${alias}\``);
  return [
    ...title,
    usage,
    ...(aliases.length > 0 ? [`Also called ${aliases.join(", ")}.\n`] : []),
    ...renderTable(
      "Argument",
      help
        .visibleArguments(command as never)
        .map((argument) => [`\`${argument.name()}\``, argument.description]),
    ),
    ...renderTable(
      "Option",
      help
        .visibleOptions(command as never)
        .map((option) => [`\`${option.flags}\``, describeOption(option)]),
    ),
    ...real.flatMap((subcommand) => renderCommand(subcommand, name)),
  ];
}

function describeOption(option: Option): string {
  const extras = [
    ...(option.argChoices === undefined ? [] : [`one of ${option.argChoices.join(", ")}`]),
    ...(option.defaultValue === undefined
      ? []
      : [`default: ${JSON.stringify(option.defaultValue)}`]),
    ...(option.mandatory ? ["required"] : []),
  ];
  return extras.length === 0 ? option.description : `${option.description} (${extras.join("; ")})`;
}

function renderTable(label: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return [];
  const lines = rows.map(
    ([name, text]) => `| ${name.replaceAll("|", "\\|")} | ${text.replaceAll("|", "\\|")} |`,
  );
  return [`| ${label} | |\n| --- | --- |\n${lines.join("\n")}\n`];
}
