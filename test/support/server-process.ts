// A server program of the image tools root, run for a test.
//
// Invariants: it dies with the test process (pdeathsig) and is ended by its own pid only; a start that
// fails reports what the program said.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { chrootCommand } from "../vm/tools-root.ts";
import { ensureImageTools } from "./image-tools.ts";
import { lineSplitter } from "./run.ts";

export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** Everything it printed so far. */
  log(): string;
}

/** Starts `argv` and waits until `findPort` sees a port in a line of its output. */
export async function startServer(
  argv: readonly string[],
  findPort: (line: string) => number | null,
): Promise<ServerProcess> {
  const command = chrootCommand(await ensureImageTools(), argv);
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], LC_ALL: "C", OTEL_TRACES_EXPORTER: "none" },
  });
  const said: string[] = [];
  const { promise: listening, resolve, reject } = Promise.withResolvers<number>();
  const lines = lineSplitter((line) => {
    said.push(line);
    const port = findPort(line);
    if (port !== null) resolve(port);
  });
  child.stdout.on("data", lines.push);
  child.stderr.on("data", lines.push);
  child.on("error", reject);
  child.on("close", () => {
    lines.end();
    reject(new Error(`${argv[0]} ended:\n  ${said.join("\n  ")}`));
  });
  const port = await listening;
  return {
    pid: child.pid!,
    port,
    log: () => said.join("\n"),
    [Symbol.asyncDispose]: () => stopChild(child),
  };
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGKILL");
  await closed;
}

/** A port of the loopback interface that nobody has at the moment, for programs that cannot choose. */
export async function findFreePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
