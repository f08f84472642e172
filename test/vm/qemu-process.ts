// The QEMU process and its three connections (QMP, console, agent).
// Invariants: the process is killed with this one (pdeathsig) and by its own pid only; a start that
// fails reports what QEMU said.

import { spawn } from "node:child_process";
import type { Socket } from "node:net";
import { join } from "node:path";
import { lineSplitter } from "../support/run.ts";
import type { MachineFiles } from "./machine-files.ts";
import type { QemuSetup } from "./qemu-args.ts";
import { expectConnection } from "./sockets.ts";
import { chrootCommand, ensureToolsRoot } from "./tools-root.ts";

export type Qemu = {
  readonly pid: number;
  readonly qmp: Socket;
  readonly console: Socket;
  readonly agent: Socket;
  /** How it ended, once it has. */
  readonly exited: Promise<string>;
  kill(): void;
};

/** Starts QEMU with the arguments made for the sockets on which we listen already. */
export async function startQemu(
  files: MachineFiles,
  makeArgs: (sockets: QemuSetup["sockets"]) => string[],
): Promise<Qemu> {
  const path = (name: string) => join(files.socketDir, name);
  const sockets = { qmp: path("qmp"), console: path("console"), agent: path("agent") };
  const args = makeArgs(sockets);
  const wanted = args.some((arg) => arg.includes(sockets.agent)) ? 3 : 2;
  const callbacks = await Promise.all(
    [sockets.qmp, sockets.console, sockets.agent].slice(0, wanted).map(expectConnection),
  );
  const command = chrootCommand(await ensureToolsRoot(), args);
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: string[] = [];
  const lines = lineSplitter((line) => void said.push(line));
  child.stdout!.on("data", lines.push);
  child.stderr!.on("data", lines.push);
  const { promise: exited, resolve } = Promise.withResolvers<string>();
  child.on("error", (error) => resolve(error.message));
  child.on("close", (code, signal) => {
    lines.end();
    resolve([signal ?? `exit code ${code}`, ...said].join("\n  "));
  });
  const failed = exited.then((how) => Promise.reject(new Error(`Cannot start QEMU: ${how}`)));
  try {
    const connected = Promise.all(callbacks.map((callback) => callback.connected));
    const [qmp, console, agent] = await Promise.race([connected, failed]);
    failed.catch(() => {});
    return {
      pid: child.pid!,
      qmp: qmp!,
      console: console!,
      // Without an agent its stream is one that never says anything.
      agent: agent ?? new (await import("node:net")).Socket(),
      exited,
      kill: () => void child.kill("SIGKILL"),
    };
  } finally {
    for (const callback of callbacks) callback.close();
  }
}
