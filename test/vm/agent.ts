// A root shell in the guest behind a virtio-serial port, put there through SMBIOS credentials.
// Invariants: nothing is added to the image; commands run one after the other, each in a subshell
// of its own, and end with a line that carries a nonce; every boot announces itself once.

import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";

export type CommandResult = { readonly code: number; readonly output: string };

export type Agent = {
  run(command: string): Promise<CommandResult>;
  /** Resolves when a boot other than the last awaited one has announced itself. */
  waitReady(): Promise<string>;
  /** As `waitReady`, but for a boot after the one that runs now. */
  waitNextBoot(): Promise<string>;
  /** Resolves when the shell announces itself again, be it in the same boot: after a soft reboot. */
  waitNextShell(): Promise<void>;
  /** Fails whatever waits now or later, because the machine is gone. */
  fail(describe: () => Error): void;
};

export const agentPort = "rig";

const unitName = "rig-agent.service";

// "$$" and "%%" are systemd's own quoting. The port can be opened once only, so one descriptor does
// for both directions; it is found through sysfs, because udev's name comes many seconds later.
const unit = `[Unit]
Description=Shell for the test rig
ConditionPathExists=!/etc/initrd-release
StartLimitIntervalSec=0
[Service]
Type=exec
Restart=always
RestartSec=0
TimeoutStopSec=5
Environment=HOME=/root TERM=dumb SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
ExecStart=/bin/bash --noprofile --norc -c 'cd /sys/class/virtio-ports; \\
  for port in *; do \\
    if grep -qx ${agentPort} $$port/name; then exec 0<>/dev/$$port 1>&0; fi; done; cd /; \\
  printf "\\\\n@@RIG-READY %%s\\\\n" $$(cat /proc/sys/kernel/random/boot_id); \\
  exec /bin/bash --noprofile --norc'
`;

const dropIn = `[Unit]\nWants=${unitName}\n`;

/** Values of `-smbios type=11` that start the agent in any systemd from version 256. */
export function agentCredentials(): string[] {
  const credential = (name: string, text: string) =>
    `io.systemd.credential.binary:${name}=${Buffer.from(text).toString("base64")}`;
  return [
    credential(`systemd.extra-unit.${unitName}`, unit),
    credential("systemd.unit-dropin.multi-user.target", dropIn),
  ];
}

type Waiter<T> = { resolve(value: T): void; reject(error: Error): void };

/** Promises that are settled together. */
function openWaiters<T>() {
  const waiters = new Set<Waiter<T>>();
  const settle = (how: (waiter: Waiter<T>) => void) => {
    for (const waiter of waiters) how(waiter);
    waiters.clear();
  };
  return {
    isEmpty: () => waiters.size === 0,
    add(): Promise<T> {
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      waiters.add({ resolve, reject });
      return promise;
    },
    resolve: (value: T) => settle((waiter) => waiter.resolve(value)),
    reject: (error: Error) => settle((waiter) => waiter.reject(error)),
  };
}

/** Speaks with the agent; `resumed` when the guest is known to sit at its prompt already. */
export function openAgent(socket: Socket, resumed: boolean): Agent {
  const decoder = new TextDecoder();
  let received = "";
  let awaitedBoot = "";
  let currentBoot = resumed ? "resumed" : "";
  let pending: ({ nonce: string } & Waiter<CommandResult>) | undefined;
  let failure: (() => Error) | undefined;
  const readyWaiters = openWaiters<string>();
  const shellWaiters = openWaiters<void>();
  let queue: Promise<unknown> = Promise.resolve();

  const announce = () => {
    if (currentBoot === "" || currentBoot === awaitedBoot || readyWaiters.isEmpty()) return;
    awaitedBoot = currentBoot;
    readyWaiters.resolve(currentBoot);
  };
  const scan = () => {
    const ready = /\n@@RIG-READY (\S+)\n/.exec(received);
    if (ready) {
      received = received.slice(ready.index + ready[0].length);
      currentBoot = ready[1]!;
      pending?.reject(new Error("the guest restarted its shell during the command"));
      pending = undefined;
      announce();
      shellWaiters.resolve();
    }
    const end = pending && new RegExp(`\\n@@RIG-${pending.nonce} (\\d+)\\n`).exec(received);
    if (!pending || !end) return;
    pending.resolve({ code: Number(end[1]), output: received.slice(0, end.index) });
    received = received.slice(end.index + end[0].length);
    pending = undefined;
  };
  socket.on("data", (chunk: Buffer) => {
    received += decoder.decode(chunk, { stream: true });
    scan();
  });
  const send = (command: string) => {
    if (failure) throw failure();
    const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
    const nonce = randomUUID();
    pending = { nonce, resolve, reject };
    socket.write(commandLine(command, nonce));
    return promise;
  };
  const waitReady = () => {
    if (failure) return Promise.reject(failure());
    const promise = readyWaiters.add();
    announce();
    return promise;
  };
  return {
    run(command) {
      const result = queue.then(() => send(command));
      queue = result.catch(() => {});
      return result;
    },
    waitReady,
    waitNextBoot() {
      awaitedBoot = currentBoot;
      return waitReady();
    },
    waitNextShell: () => (failure ? Promise.reject(failure()) : shellWaiters.add()),
    fail(describe) {
      failure = describe;
      pending?.reject(describe());
      readyWaiters.reject(describe());
      shellWaiters.reject(describe());
    },
  };
}

/** One line for the shell: quoted for `eval`, so a syntax error or `exit` cannot end the agent. */
export function commandLine(command: string, nonce: string): string {
  const quoted = `'${command.replaceAll("'", `'\\''`)}'`;
  return `( eval ${quoted} ) </dev/null 2>&1; printf '\\n@@RIG-%s %d\\n' ${nonce} $?\n`;
}
