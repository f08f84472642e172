// Datagrams to local sockets (unix(7)): the journal's way in for records with fields.

import { Fd } from "./fd.ts";
import { attemptSyscall } from "./libc.ts";
import { checkPath, cstring } from "./path.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Sends one datagram to the socket `path`; never waits (EAGAIN), ENOENT or ECONNREFUSED when nobody listens. */
export function sendDatagram(path: string, bytes: Uint8Array): void {
  const type = SOCK_DGRAM | SOCK_CLOEXEC;
  const number = attemptSyscall("socket", AF_UNIX, type, 0);
  using socket = new Fd(checkPath("socket", number, null, path));
  // struct sockaddr_un: the family in 16 bits, then the path.
  const address = Buffer.concat([new Uint8Array([AF_UNIX, 0]), cstring(path)]);
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  const result = attemptSyscall(
    "sendto",
    socket.number,
    bytes,
    bytes.length,
    flags,
    address,
    address.length,
  );
  checkPath("sendto", result, null, path);
}
