// Which accelerator guests get: KVM only where one has been seen to start, else software (TCG).
// Invariants: /dev/kvm alone proves nothing (there are machines where even SeaBIOS runs but no
// kernel does: "KVM internal error"), so a kernel must have said its name; the answer is found once
// a process.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import type { Progress } from "../support/run.ts";
import type { Boot } from "./qemu-args.ts";
import { chrootCommand, ensureToolsRoot } from "./tools-root.ts";

// The drive is read-only: the firmware runs without variables for the probe.
const firmwareDrive =
  "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";

export type Accelerator = "kvm" | "tcg";

const probeLimitMs = 15_000;

let probed: Promise<Accelerator> | undefined;

/** The accelerator to use on this machine; the first caller's way to boot is what gets tried. */
export function accelerator(boot: Boot, onLine?: Progress): Promise<Accelerator> {
  probed ??= probe(boot, onLine);
  return probed;
}

async function probe(boot: Boot, onLine?: Progress): Promise<Accelerator> {
  const root = await ensureToolsRoot(onLine);
  const found = existsSync("/dev/kvm") && (await guestStarts(root, boot)) ? "kvm" : "tcg";
  onLine?.(`VM rig: guests run with ${found === "kvm" ? "KVM" : "QEMU's TCG (no usable KVM)"}`);
  return found;
}

/** Whether a kernel (or the UEFI firmware, for want of one) gets as far as saying who it is. */
async function guestStarts(root: string, boot: Boot): Promise<boolean> {
  const [guest, words] =
    boot.kind === "kernel"
      ? [["-kernel", boot.kernel, "-append", "console=ttyS0 earlyprintk=ttyS0"], /Linux version/]
      : [["-machine", "q35", "-drive", firmwareDrive], /BdsDxe|UEFI/];
  const machine = ["-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-reboot"];
  const argv = ["qemu-system-x86_64", ...machine, "-display", "none", "-serial", "stdio", ...guest];
  const [program, ...args] = chrootCommand(root, argv);
  const child = spawn(program!, args, { stdio: ["ignore", "pipe", "pipe"] });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let said = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    said += chunk.toString("latin1");
    if (words.test(said)) resolve(true);
  });
  // "KVM internal error": QEMU stops the guest then, and does not end.
  child.stderr!.on("data", (chunk: Buffer) => {
    if (/internal error/.test(chunk.toString())) resolve(false);
  });
  child.once("error", () => resolve(false));
  child.once("close", () => resolve(false));
  const timer = setTimeout(() => resolve(false), probeLimitMs);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
}

/** QEMU's options for an accelerator. */
export function acceleratorArgs(kind: Accelerator): string[] {
  if (kind === "kvm") return ["-accel", "kvm", "-cpu", "host"];
  return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"];
}
