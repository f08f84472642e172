// The real dockerd of the image tools root, with a socket in a scratch directory and nothing else: no network,
// no bridge, no firewall rules. It ends, with everything it started, when it is disposed of.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { chrootCommand } from "../vm/tools-root.ts";
import { ensureImageTools } from "./image-tools.ts";
import { lineSplitter } from "./run.ts";

export interface DockerDaemon extends AsyncDisposable {
  /** For $DOCKER_HOST. */
  readonly host: string;
}

const READY = /API listen on /;
const TAIL_LINES = 20;

/** `scratch` must be below /tmp, which the tools root shares. Fails with the daemon's own words. */
export async function startDockerDaemon(scratch: string): Promise<DockerDaemon> {
  const directory = join(scratch, "docker");
  mkdirSync(directory, { recursive: true });
  const socket = join(directory, "sock");
  const argv = [
    // Namespaces: killing the first process ends containerd as well.
    ...["unshare", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "--"],
    ...["dockerd", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"],
    ...["--storage-driver=vfs", "--host", `unix://${socket}`],
    ...["--data-root", join(directory, "data"), "--exec-root", join(directory, "exec")],
    ...["--pidfile", join(directory, "pid")],
  ];
  const [program, ...args] = chrootCommand(await ensureImageTools(), argv);
  const child = spawn(program!, args, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const tail: string[] = [];
  const ready = Promise.withResolvers<void>();
  const lines = lineSplitter((line) => {
    if (READY.test(line)) ready.resolve();
    tail.push(line);
    if (tail.length > TAIL_LINES) tail.shift();
  });
  child.stderr.on("data", (chunk: Buffer) => lines.push(chunk));
  void ended.then(() => ready.reject(new Error(`dockerd ended:\n${tail.join("\n")}`)));
  await ready.promise;
  return {
    host: `unix://${socket}`,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
