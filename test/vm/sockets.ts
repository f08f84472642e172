// Unix sockets on which the rig waits for QEMU to call back.
// Invariants: we listen before QEMU starts, so there is nothing to poll for; each socket takes one
// connection; closing removes the listener.

import { createServer, type Socket } from "node:net";

export type Callback = {
  readonly path: string;
  readonly connected: Promise<Socket>;
  close(): void;
};

/** Listens on `path` for the one connection that QEMU makes at start. */
export async function expectConnection(path: string): Promise<Callback> {
  const { promise, resolve } = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    server.close();
    // A dying QEMU resets its sockets; its exit code is what tells the story.
    socket.on("error", () => {});
    resolve(socket);
  });
  const listening = Promise.withResolvers<void>();
  server.once("error", listening.reject);
  server.listen(path, listening.resolve);
  await listening.promise;
  return { path, connected: promise, close: () => void server.close() };
}
