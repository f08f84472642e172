// Watches a running machine: its console, its shell, its end; and the commands built on the shell.
// Invariants: whoever waits hears of the machine's end; an error that a caller sees marks the
// machine as one whose log and disks are kept, and names both along with the last console lines.

import { type Agent, type CommandResult, openAgent } from "./agent.ts";
import { textLog, within } from "./events.ts";
import type { Machine } from "./machine.ts";
import type { MachineFiles } from "./machine-files.ts";
import type { Qemu } from "./qemu-process.ts";

export type Watch = {
  readonly agent: Agent;
  /** Resolves when QEMU has ended, however it did. */
  readonly ended: Promise<void>;
  /** An error's text: what happened, where the evidence is, what the console said last. */
  report(what: string): string;
  waitFor<T>(promise: Promise<T>, ms: number, what: string): Promise<T>;
  waitForConsole(pattern: RegExp, limitMs?: number): Promise<RegExpExecArray>;
  consoleText(): string;
  keep(): void;
  kept(): boolean;
};

const bootLimitMs = 300_000;
const commandLimitMs = 120_000;
const exitLimitMs = 120_000;
const shownLines = 30;

export function watchMachine(parts: {
  readonly name: string;
  readonly files: MachineFiles;
  readonly qemu: Qemu;
  readonly resumed: boolean;
}): Watch {
  const { name, files, qemu } = parts;
  const agent = openAgent(qemu.agent, parts.resumed);
  const log = textLog();
  qemu.console.on("data", log.push);
  let kept = false;
  const report = (what: string) => {
    const tail = log.lastLines(shownLines).replace(/^/gm, "  | ");
    return `${name}: ${what}\n  log: ${files.consoleLog}\n  disks: ${files.dir}\n${tail}`;
  };
  const endError = (how: string) => new Error(report(`the machine has ended (${how})`));
  const ended = qemu.exited.then((how) => agent.fail(() => endError(how)));
  const waitFor = async <T>(promise: Promise<T>, ms: number, what: string) => {
    try {
      return await within(promise, ms, () => report(`${what}: nothing for ${ms / 1000} s`));
    } catch (error) {
      kept = true;
      throw error;
    }
  };
  return {
    agent,
    ended,
    report,
    waitFor,
    waitForConsole(pattern, limitMs = bootLimitMs) {
      const gone = qemu.exited.then((how) => Promise.reject(endError(how)));
      return waitFor(Promise.race([log.waitFor(pattern), gone]), limitMs, `waiting for ${pattern}`);
    },
    consoleText: () => log.text(),
    keep: () => void (kept = true),
    kept: () => kept,
  };
}

type GuestCommands = Pick<
  Machine,
  "waitReady" | "waitNextBoot" | "run" | "must" | "reboot" | "softReboot" | "powerOff" | "waitExit"
>;

/** What one can ask of the guest through its shell. */
export function guestCommands(watch: Watch): GuestCommands {
  const { agent, ended, report, waitFor } = watch;
  const run = (command: string, { timeoutMs = commandLimitMs } = {}): Promise<CommandResult> =>
    waitFor(agent.run(command), timeoutMs, `running "${command.slice(0, 200)}"`);
  // The shell may be gone before it can say that systemctl succeeded: only a refusal counts.
  const refused = async (command: string): Promise<never> => {
    const answer = await agent.run(command).catch(() => ({ code: 0, output: "" }));
    if (answer.code !== 0) throw new Error(report(`${command}: ${answer.output}`));
    return new Promise<never>(() => {});
  };
  return {
    run,
    async must(command, options) {
      const { code, output } = await run(command, options);
      if (code === 0) return output.trim();
      watch.keep();
      throw new Error(report(`exit code ${code} from: ${command}\n${output}`));
    },
    async waitReady(limitMs = bootLimitMs) {
      await waitFor(agent.waitReady(), limitMs, "waiting for the guest's shell");
    },
    async waitNextBoot(limitMs = bootLimitMs) {
      await waitFor(agent.waitNextBoot(), limitMs, "waiting for the shell of the next boot");
    },
    async reboot(limitMs = bootLimitMs) {
      const next = agent.waitNextBoot();
      await waitFor(
        Promise.race([next, refused("systemctl --no-block reboot")]),
        limitMs,
        "rebooting",
      );
    },
    async softReboot(limitMs = bootLimitMs, command = "systemctl --no-block soft-reboot") {
      const next = agent.waitNextShell();
      await waitFor(Promise.race([next, refused(command)]), limitMs, "soft-rebooting");
    },
    async powerOff(limitMs = exitLimitMs) {
      await waitFor(
        Promise.race([ended, refused("systemctl --no-block poweroff")]),
        limitMs,
        "powering off",
      );
    },
    waitExit: (limitMs = exitLimitMs) => waitFor(ended, limitMs, "waiting for power-off"),
  };
}
