// A server of our own on a loopback port, for tests: node:http or node:https.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import type { ServerCertificate } from "./registry-certificates.ts";

export interface LoopbackServer extends AsyncDisposable {
  readonly port: number;
  /** "127.0.0.1:PORT" */
  readonly host: string;
  /** "http://127.0.0.1:PORT" */
  readonly origin: string;
  /** Connections so far. */
  connectionCount(): number;
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

/** `answer` may reject or throw: the connection is closed then. */
export async function listenOnLoopback(
  answer: Answer,
  tls?: ServerCertificate,
): Promise<LoopbackServer> {
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    request.on("error", () => {});
    response.on("error", () => {});
    try {
      await answer(request, response);
    } catch {
      response.destroy();
    }
  };
  const server =
    tls === undefined
      ? createServer(handle)
      : createTlsServer(
          { cert: readFileSync(tls.certificatePath), key: readFileSync(tls.keyPath) },
          handle,
        );
  const sockets = new Set<Socket>();
  let count = 0;
  server.on("connection", (socket: Socket) => {
    count++;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const host = `127.0.0.1:${port}`;
  return {
    port,
    host,
    origin: `${tls === undefined ? "http" : "https"}://${host}`,
    connectionCount: () => count,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
