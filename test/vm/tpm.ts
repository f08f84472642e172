// A TPM for a machine: swtpm, which QEMU shows to the guest as tpm-tis.
// Invariants: one process for one machine, which ends with QEMU's connection, with this process, or by
// its own pid; its state lies in the machine's directory, so two machines never share one.

import { spawn } from "node:child_process";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileAppears } from "./events.ts";
import { chrootCommand, ensureToolsRoot, runTool } from "./tools-root.ts";

export type Tpm = {
  /** Where its state is: a copy of it, taken after the machine's end, is the TPM as it was then. */
  readonly stateDir: string;
  /** QEMU's arguments. */
  readonly args: readonly string[];
  stop(): Promise<void>;
};

/** `saved` is the state of an earlier TPM; without one it is new. */
export async function startTpm(
  dirs: { readonly dir: string; readonly socketDir: string },
  saved?: string,
): Promise<Tpm> {
  const stateDir = join(dirs.dir, "tpm");
  if (saved === undefined) {
    await mkdir(stateDir);
    await runTool(["swtpm_setup", "--tpm2", "--tpmstate", stateDir, "--overwrite"]);
  } else await cp(saved, stateDir, { recursive: true });
  const socket = join(dirs.socketDir, "tpm");
  const words = ["swtpm", "socket", "--tpm2", "--tpmstate", `dir=${stateDir}`, "--terminate"];
  // Written when it listens already.
  const started = join(dirs.socketDir, "tpm.pid");
  const control = ["--ctrl", `type=unixio,path=${socket}`, "--pid", `file=${started}`];
  const command = chrootCommand(await ensureToolsRoot(), [...words, ...control]);
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said: string[] = [];
  child.stderr!.on("data", (chunk: Buffer) => void said.push(chunk.toString()));
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  child.on("error", () => resolve());
  child.on("close", () => resolve());
  const died = ended.then(() => Promise.reject(new Error(`swtpm ended: ${said.join("")}`)));
  await Promise.race([fileAppears(started), died]);
  died.catch(() => {});
  return {
    stateDir,
    args: [
      ...["-chardev", `socket,id=tpm,path=${socket}`],
      ...["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"],
    ],
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
