// A proxy on loopback: CONNECT tunnels and plain requests with absolute addresses, with or without a password.
// Whatever name is asked for is looked for on loopback, so that tests have names outside of it.

import { once } from "node:events";
import { createServer, type IncomingMessage, request as sendRequest } from "node:http";
import { connect, createServer as createSocketServer, type Socket } from "node:net";

export interface TestProxy extends AsyncDisposable {
  readonly port: number;
  /** "CONNECT host:port" and "GET http://…", in order. */
  readonly requests: readonly string[];
}

/** `authorization`: what Proxy-Authorization must say. */
export async function startProxy(authorization?: string): Promise<TestProxy> {
  const requests: string[] = [];
  const isAllowed = ({ headers }: IncomingMessage) =>
    authorization === undefined || headers["proxy-authorization"] === authorization;
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    if (!isAllowed(request)) {
      response.writeHead(407).end();
      return;
    }
    const { "proxy-authorization": _, ...headers } = request.headers;
    const { port, pathname, search } = new URL(request.url!);
    const onward = sendRequest(
      `http://127.0.0.1:${port}${pathname}${search}`,
      { method: request.method!, headers },
      (answer) => {
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  const sockets = new Set<Socket>();
  server.on("connect", (request: IncomingMessage, socket: Socket) => {
    requests.push(`CONNECT ${request.url}`);
    socket.on("error", () => {});
    if (!isAllowed(request)) {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
      return;
    }
    const port = Number(request.url!.slice(request.url!.lastIndexOf(":") + 1));
    const onward = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
      onward.pipe(socket);
      socket.pipe(onward);
    });
    sockets.add(onward).add(socket);
    onward.on("error", () => socket.destroy());
    socket.on("close", () => onward.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    port,
    requests,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** SOCKS 5 (RFC 1928, 1929) for names, looked for on loopback. Requests: "user:password" or "nobody", "host:port". */
export async function startSocks(): Promise<TestProxy> {
  const requests: string[] = [];
  const server = createSocketServer((socket) => {
    socket.on("error", () => {});
    void serveSocks(socket, requests).catch(() => socket.destroy());
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  return {
    port,
    requests,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function serveSocks(socket: Socket, requests: string[]): Promise<void> {
  const take = async (count: number): Promise<Buffer> => {
    for (;;) {
      const bytes: Buffer | null = socket.read(count);
      if (bytes !== null) return bytes;
      await once(socket, "readable");
    }
  };
  const methods = await take((await take(2))[1]!);
  if (methods.includes(2)) {
    socket.write(Buffer.from([5, 2]));
    const user = await take((await take(2))[1]!);
    const password = await take((await take(1))[0]!);
    requests.push(`${user}:${password}`);
    socket.write(Buffer.from([1, 0]));
  } else {
    requests.push("nobody");
    socket.write(Buffer.from([5, 0]));
  }
  const [, , , , nameLength] = await take(5);
  const name = await take(nameLength!);
  const port = (await take(2)).readUInt16BE();
  requests.push(`${name}:${port}`);
  const onward = connect(port, "127.0.0.1", () => {
    socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    onward.pipe(socket);
    socket.pipe(onward);
  });
  onward.on("error", () => socket.destroy());
  socket.on("close", () => onward.destroy());
}
