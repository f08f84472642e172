// `bootc status` for those who may not read boot entries: bootc-status.socket answers every connection with
// the document that root's `bootc status --format json` prints, made at that moment.
//
// Nothing is kept anywhere, so nothing can be out of date, and a machine on which nobody asks pays nothing.

import { connect } from "node:net";
import { join } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import type { System } from "../boot/system.ts";
import { type Host, parseHost } from "../spec/host.ts";

const SOCKET = "bootc/status.socket";
const MAX_BYTES = 4 << 20;
/** Of silence. Reading a machine's state takes well under a second, on an emulated one a few. */
const IDLE_MS = 60_000;

/** StateError when nobody answers there, FormatError when the answer is no host document. */
export async function askStatus({ runDirectory }: System): Promise<Host> {
  const path = join(runDirectory, SOCKET);
  let answer: string;
  try {
    answer = await readAll(path);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ECONNREFUSED", "ENOTDIR", "EACCES")) throw cause;
    throw new StateError(
      "not-root",
      'Only root can read boot entries, and bootc-status.socket, which answers others, is not there: use "sudo bootc status" or "systemctl start bootc-status.socket"',
    );
  }
  if (answer === "") {
    throw new StateError(
      "command-failed",
      `"${path}" did not answer; see "journalctl SYSLOG_IDENTIFIER=bootc" or try again`,
    );
  }
  return parseHost(JSON.parse(answer));
}

function readAll(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = [];
    let total = 0;
    const socket = connect(path);
    const fail = (reason: string) =>
      socket.destroy(new StateError("command-failed", `"${path}" ${reason}`));
    socket.setTimeout(IDLE_MS, () => fail("is silent"));
    socket.on("data", (bytes) => {
      total += bytes.length;
      if (total > MAX_BYTES) fail("says too much");
      else parts.push(Buffer.from(bytes));
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(Buffer.concat(parts).toString("utf8")));
  });
}
