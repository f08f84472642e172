// The journal record that says which deployment was chosen; programs find it by its id (ostree.md 1.1).

import { isErrno } from "../../shared/error.ts";
import { sendDatagram } from "../../shared/sys/socket.ts";
import type { Deployment } from "./deployment.ts";

const MESSAGE_ID = "7170336a73ba4601bad31af888aa0df7";
const SOCKET = "/run/systemd/journal/socket";

/** Nothing happens without a journal; whether the machine starts must not depend on one. */
export function recordDeployment({ device, path }: Deployment): void {
  const fields = {
    MESSAGE: `Found ostree deployment ${path}`,
    MESSAGE_ID,
    PRIORITY: "6",
    SYSLOG_IDENTIFIER: "ostree-prepare-root",
    DEPLOYMENT_PATH: path,
    DEPLOYMENT_DEVICE: device.number,
    DEPLOYMENT_INODE: device.inode,
  };
  const lines = Object.entries(fields).map(
    ([name, value]) => `${name}=${String(value).replaceAll("\n", " ")}\n`,
  );
  try {
    sendDatagram(SOCKET, Buffer.from(lines.join("")));
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ECONNREFUSED", "EAGAIN", "EACCES", "EAFNOSUPPORT")) throw error;
  }
}
