import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeHostState } from "../../test/support/hosts.ts";
import { readSystem } from "../boot/system.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { makeHost } from "../spec/make-host.ts";
import { askStatus } from "./status-socket.ts";

let run: string;
let server: Server | null = null;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "run-"));
  mkdirSync(join(run, "bootc"));
});
afterEach(async () => {
  await new Promise((done) => (server === null ? done(null) : server.close(done)));
  server = null;
  rmSync(run, { recursive: true });
});

const ask = () => askStatus({ ...readSystem(), runDirectory: run });

async function serve(answer: (socket: Socket) => void) {
  server = createServer(answer);
  await new Promise<void>((ready) => server!.listen(join(run, "bootc/status.socket"), ready));
}

test("the document arrives, however it is cut into pieces", async () => {
  const host = makeHost(makeHostState({ problems: ["ä".repeat(40_000)] }));
  const text = Buffer.from(formatCanonicalJson(host));
  await serve((socket) => {
    for (let at = 0; at < text.length; at += 1001) socket.write(text.subarray(at, at + 1001));
    socket.end();
  });
  expect(await ask()).toEqual(host);
});

test("nobody is there", async () => {
  await expect(ask()).rejects.toThrow(/^Only root can read boot entries.*systemctl start/);
});

test.each([
  ["nothing", "", /did not answer/],
  ["no JSON", "error: x", /JSON/],
  ["another document", "{}", /no host document/],
  ["too much", " ".repeat(5 << 20), /says too much/],
])("an answer that is %s is an error", async (_, text, message) => {
  await serve((socket) => socket.on("error", () => {}).end(text));
  await expect(ask()).rejects.toThrow(message);
});
