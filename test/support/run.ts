// Runs one program for the tests and the VM rig: output line by line to a callback, or collected.
// Invariants: a non-zero exit is an error that carries the end of what the program said; only the
// process started here is ever signalled; nothing is passed through a shell.

import { spawn } from "node:child_process";

export type Progress = (line: string) => void;

export type RunOptions = {
  readonly onLine?: Progress | undefined;
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

const tailLines = 15;

/** Splits a byte stream into lines; a last line without newline is delivered by `end()`. */
export function lineSplitter(onLine: Progress): { push(chunk: Buffer): void; end(): void } {
  const decoder = new TextDecoder();
  let pending = "";
  return {
    push(chunk) {
      const parts = (pending + decoder.decode(chunk, { stream: true })).split(/\r?\n/);
      pending = parts.pop()!;
      for (const part of parts) onLine(part);
    },
    end() {
      if (pending !== "") onLine(pending);
      pending = "";
    },
  };
}

/** Runs `argv` to its end and returns its standard output; throws when it fails. */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: options.cwd,
    // Translated messages would make log lines and errors depend on the machine.
    env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive", ...options.env },
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  const out: Buffer[] = [];
  const tail: string[] = [];
  const lines = lineSplitter((line) => {
    options.onLine?.(line);
    tail.push(line);
    if (tail.length > tailLines) tail.shift();
  });
  child.stdout!.on("data", (chunk: Buffer) => {
    out.push(chunk);
    lines.push(chunk);
  });
  child.stderr!.on("data", (chunk: Buffer) => lines.push(chunk));
  if (options.input !== undefined) child.stdin!.end(options.input);
  child.on("error", (cause) => reject(new Error(`Cannot run ${argv[0]}`, { cause })));
  child.on("close", (code, signal) => {
    lines.end();
    if (code === 0) return resolve(Buffer.concat(out).toString());
    const how = signal ?? `exit code ${code}`;
    reject(new Error(`${argv.join(" ")}: ${how}\n${tail.map((line) => `  ${line}`).join("\n")}`));
  });
  return promise;
}
