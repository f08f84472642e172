// A TPM 2.0 for tests that speak with it directly: swtpm from the tools root, over its unix socket.
// Invariants: its state lies in the test's scratch directory; it ends with this process at the latest.
//
// The socket is used as a device would be, one write and one read for a command, with system calls that
// wait: what is tested is synchronous.

import { dlopen } from "bun:ffi";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { Fd } from "../../shared/sys/fd.ts";
import { read, writeAll } from "../../shared/sys/file.ts";
import { cstring } from "../../shared/sys/path.ts";
import type { Tpm } from "../../shared/sys/tpm.ts";
import { fileAppears } from "../vm/events.ts";
import { chrootCommand, ensureToolsRoot } from "../vm/tools-root.ts";

export interface Swtpm extends AsyncDisposable {
  /** As `openTpm` of shared/sys/tpm.ts: a new connection, of which there can be one at a time. */
  readonly open: () => Tpm;
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const RESPONSE_BYTES = 4096;

const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
});

/** `directory`: a short path below /tmp, which looks the same to the tools. */
export async function startSwtpm(directory: string): Promise<Swtpm> {
  const socket = join(directory, "tpm.sock");
  const started = join(directory, "tpm.pid");
  const words = ["swtpm", "socket", "--tpm2", "--tpmstate", `dir=${directory}`];
  const server = ["--server", `type=unixio,path=${socket}`, "--pid", `file=${started}`];
  const flags = ["--flags", "not-need-init,startup-clear"];
  const command = chrootCommand(await ensureToolsRoot(), [...words, ...server, ...flags]);
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => void said.push(chunk.toString()));
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const died = ended.then(() => Promise.reject(new Error(`swtpm ended: ${said.join("")}`)));
  await Promise.race([fileAppears(started), died]);
  died.catch(() => {});
  return {
    open: () => connect(socket),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

function connect(path: string): Tpm {
  const fd = new Fd(libc.symbols.socket(AF_UNIX, SOCK_STREAM, 0));
  const address = Buffer.concat([new Uint8Array([AF_UNIX, 0]), cstring(path)]);
  if (libc.symbols.connect(fd.number, address, address.length) !== 0) {
    throw new Error(`Cannot connect to swtpm at ${path}`);
  }
  return {
    transact(command) {
      writeAll(fd, command);
      const answer = new Uint8Array(RESPONSE_BYTES);
      return answer.subarray(0, read(fd, answer));
    },
    [Symbol.dispose]: () => fd.close(),
  };
}
