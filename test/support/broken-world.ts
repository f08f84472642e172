// A machine with a running, a previous and a staged deployment, and ways to damage what lies around them.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { writeScratchImage } from "./scratch-image.ts";
import { installScratch } from "./scratch-install.ts";
import { ScratchMachine } from "./scratch-machine.ts";
import { stageScratch } from "./scratch-update.ts";

export interface ThreeDeployments {
  readonly rollback: string;
  readonly booted: string;
  readonly staged: string;
}

/** Installs version 1, updates to 2, starts it, stages 3. */
export async function makeThree(machine: ScratchMachine): Promise<ThreeDeployments> {
  const imagePath = join(machine.directory, "os.oci");
  writeScratchImage(imagePath, { version: "1" });
  const { id: rollback } = await installScratch(machine, imagePath);
  const ids: string[] = [];
  for (const version of ["2", "3"]) {
    writeScratchImage(imagePath, { version });
    using running = machine.boot();
    ids.push(await stageScratch(running, imagePath));
    if (version === "2") finalizeStaged(running, running.world());
  }
  return { rollback, booted: ids[0]!, staged: ids[1]! };
}

/** Another machine in the same condition. */
export function copyMachine(from: ScratchMachine): ScratchMachine {
  const machine = new ScratchMachine();
  for (const part of ["disk", "esp", "run"] as const) {
    execFileSync("cp", ["-a", `${from[part]}/.`, machine[part]]);
  }
  execFileSync("cp", ["-a", join(from.directory, "os.oci"), machine.directory]);
  return machine;
}

/** Files and directories that a machine can lose without losing what runs. */
export function listTargets(machine: ScratchMachine, ids: ThreeDeployments): readonly string[] {
  const list = (path: string) => readdirSync(path).map((name) => join(path, name));
  const deploy = join(machine.disk, "state/deploy");
  const of = (id: string) => join(deploy, id);
  const kernels = [ids.rollback, ids.staged].map((id) =>
    join(machine.esp, "EFI/Linux", `bootc_composefs-${id}`),
  );
  return [
    ...list(join(machine.esp, "loader/entries")),
    ...list(join(machine.esp, "loader/entries.staged")),
    join(machine.esp, "loader/entries.staged"),
    ...kernels.flatMap((path) => [path, ...list(path)]),
    ...[ids.rollback, ids.booted, ids.staged].flatMap((id) => [
      join(of(id), `${id}.origin`),
      join(of(id), `${id}.policy.json`),
    ]),
    ...[ids.rollback, ids.staged].flatMap((id) => [
      of(id),
      join(of(id), "etc"),
      join(of(id), "var"),
    ]),
    join(machine.run, "composefs/staged-deployment"),
    join(machine.run, "composefs"),
    join(machine.disk, "state/bootc/boot-failures.json"),
  ];
}

export const DAMAGES = {
  gone: replaceWith(() => {}),
  empty: replaceWith((path) => writeFileSync(path, "")),
  half: (path: string) => {
    if (existsSync(path) && statSync(path).isFile()) {
      const bytes = readFileSync(path);
      writeFileSync(path, bytes.subarray(0, bytes.length / 2));
    }
  },
  zeros: replaceWith((path) => writeFileSync(path, Buffer.alloc(4096))),
  noise: replaceWith((path) =>
    writeFileSync(path, Buffer.from(Array.from({ length: 999 }, (_, i) => (i * 151) % 256))),
  ),
  huge: replaceWith((path) => writeFileSync(path, Buffer.alloc(10 << 20, "linux "))),
  json: replaceWith((path) => writeFileSync(path, '{"depl_id":[{"x":null}],"failures":{}}')),
  directory: replaceWith((path) => mkdirSync(path)),
  loop: replaceWith((path) => symlinkSync(path, path)),
  dangling: replaceWith((path) => symlinkSync("nowhere", path)),
  device: replaceWith((path) => symlinkSync("/dev/zero", path)),
  fifo: replaceWith((path) => execFileSync("mkfifo", [path])),
  mode: (path: string) => {
    if (existsSync(path)) chmodSync(path, 0);
  },
} satisfies Readonly<Record<string, (path: string) => void>>;

function replaceWith(make: (path: string) => void): (path: string) => void {
  return (path) => {
    // Another damage may have replaced it.
    if (!isDirectory(dirname(path))) return;
    rmSync(path, { recursive: true, force: true });
    make(path);
  };
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** What other programs and accidents add. */
export const ADDITIONS = {
  "entry of an unknown digest": (machine: ScratchMachine) =>
    addEntry(machine, "bootc_fedora-9-1.conf", "e".repeat(128)),
  "second entry of the rollback": (machine: ScratchMachine, ids: ThreeDeployments) =>
    addEntry(machine, "bootc_fedora-8-0.conf", ids.rollback),
  "somebody's broken entry": (machine: ScratchMachine) =>
    writeFileSync(join(machine.esp, "loader/entries/windows.conf"), "title \xff\n", "latin1"),
  "somebody's entry": (machine: ScratchMachine) =>
    writeFileSync(join(machine.esp, "loader/entries/memtest.conf"), "title M\nefi /memtest.efi\n"),
  "leftovers of writers": (machine: ScratchMachine) => {
    writeFileSync(join(machine.esp, "loader/entries/.a.conf.partial-0123456789ab"), "linux");
    mkdirSync(join(machine.disk, "state/deploy/.partial-x"), { recursive: true });
    mkdirSync(join(machine.esp, `EFI/Linux/bootc_composefs-${"d".repeat(128)}`), {
      recursive: true,
    });
  },
  "names that are nobody's": (machine: ScratchMachine) => {
    writeFileSync(join(machine.disk, "state/deploy/README"), "");
    writeFileSync(join(machine.disk, "state/deploy", "c".repeat(64)), "");
    writeFileSync(join(machine.esp, "EFI/Linux/other.efi"), "");
  },
} satisfies Readonly<Record<string, (machine: ScratchMachine, ids: ThreeDeployments) => void>>;

function addEntry(machine: ScratchMachine, fileName: string, id: string): void {
  const path = `/EFI/Linux/bootc_composefs-${id}`;
  writeFileSync(
    join(machine.esp, "loader/entries", fileName),
    `title X\nversion 9\nlinux ${path}/vmlinuz\ninitrd ${path}/initrd\noptions composefs=?${id}\nsort-key bootc-fedora-7\n`,
  );
}
