// QEMU's machine protocol: commands with answers, and events.
// Invariants: one JSON object a line; every command gets its own answer by id; a closed connection
// fails whatever still waits.

import type { Socket } from "node:net";
import { lineSplitter } from "../support/run.ts";

export type QmpEvent = { readonly event: string; readonly data: Record<string, unknown> };

export type Qmp = {
  execute(command: string, args?: Record<string, unknown>): Promise<unknown>;
  /** A command of QEMU's human monitor; its text is empty when all is well. */
  monitor(line: string): Promise<string>;
  waitForEvent(matches: (event: QmpEvent) => boolean): Promise<QmpEvent>;
};

type Pending = { resolve(value: unknown): void; reject(error: Error): void };

/** Starts the protocol on a fresh connection. */
export async function openQmp(socket: Socket): Promise<Qmp> {
  const pending = new Map<number, Pending>();
  const listeners = new Set<(event: QmpEvent) => void>();
  let lastId = 0;
  const lines = lineSplitter((line) => {
    const message = JSON.parse(line) as Record<string, unknown>;
    if ("event" in message) {
      for (const listener of listeners) listener(message as unknown as QmpEvent);
      return;
    }
    const waiting = pending.get(message["id"] as number);
    if (!waiting) return;
    pending.delete(message["id"] as number);
    const error = message["error"] as { desc: string } | undefined;
    if (error) waiting.reject(new Error(`QEMU refused: ${error.desc}`));
    else waiting.resolve(message["return"]);
  });
  socket.on("data", lines.push);
  socket.on("close", () => {
    for (const waiting of pending.values()) waiting.reject(new Error("QEMU has ended"));
    pending.clear();
  });
  const execute = (command: string, args: Record<string, unknown> = {}) => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = ++lastId;
    pending.set(id, { resolve, reject });
    socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise;
  };
  await execute("qmp_capabilities");
  return {
    execute,
    monitor: async (line) =>
      String(await execute("human-monitor-command", { "command-line": line })).trim(),
    waitForEvent(matches) {
      const { promise, resolve } = Promise.withResolvers<QmpEvent>();
      const listener = (event: QmpEvent) => {
        if (!matches(event)) return;
        listeners.delete(listener);
        resolve(event);
      };
      listeners.add(listener);
      return promise;
    },
  };
}
