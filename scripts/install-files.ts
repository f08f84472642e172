// Puts the project's files into an image root: `npm run install-files -- --root DIR [--exe FILE]`.
//
// FILES is the whole list of what is copied where. Nothing else is touched, and doing it again gives the same
// tree. One executable goes in; its other names are symlinks, which dracut follows. pid1-init is made here.

import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { MACHINE } from "./build/elf.ts";
import { emitPid1Program, type Pid1Architecture } from "./build/pid1-program.ts";

const SOURCE = resolve(import.meta.dirname, "..");
const UNITS = "usr/lib/systemd/system";
const DRACUT = "usr/lib/dracut";
const MODULE = `${DRACUT}/modules.d/51bootc`;

/** Target below the root -> file of this repository. */
const FILES: Readonly<Record<string, string>> = {
  [`${MODULE}/module-setup.sh`]: "dracut-module/51bootc/module-setup.sh",
  [`${MODULE}/prepare-root.service`]: "dracut-module/51bootc/prepare-root.service",
  [`${MODULE}/prepare-root-failed.sh`]: "dracut-module/51bootc/prepare-root-failed.sh",
  [`${MODULE}/no-volatile-root.conf`]: "dracut-module/51bootc/no-volatile-root.conf",
  [`${DRACUT}/dracut.conf.d/60-bootc-ts.conf`]: "dracut-module/60-bootc-ts.conf",
  "usr/lib/bootc/pid1-init.sh": "dracut-module/pid1-init.sh",
  "usr/lib/bootc/grub.cfg": "grub/bootc.cfg",
  [`${UNITS}/bootc-finalize-staged.service`]: "systemd/bootc-finalize-staged.service",
  [`${UNITS}/bootc-fetch-apply-updates.service`]: "systemd/bootc-fetch-apply-updates.service",
  [`${UNITS}/bootc-fetch-apply-updates.timer`]: "systemd/bootc-fetch-apply-updates.timer",
  [`${UNITS}/bootc-status.socket`]: "systemd/bootc-status.socket",
  [`${UNITS}/bootc-status@.service`]: "systemd/bootc-status@.service",
  [`${UNITS}/bootc-status-updated.path`]: "systemd/bootc-status-updated.path",
  [`${UNITS}/bootc-status-updated.target`]: "systemd/bootc-status-updated.target",
  [`${UNITS}/bootc-status-updated-onboot.target`]: "systemd/bootc-status-updated-onboot.target",
  [`${UNITS}/bootc-boot-bless.service`]: "systemd/bootc-boot-bless.service",
  [`${UNITS}/bootc-boot-review.service`]: "systemd/bootc-boot-review.service",
  [`${UNITS}/bootc-boot-failed.service`]: "systemd/bootc-boot-failed.service",
  [`${UNITS}/bootc-boot-deadline.timer`]: "systemd/bootc-boot-deadline.timer",
  [`${UNITS}/bootc-boot-health.service`]: "systemd/bootc-boot-health.service",
  [`${UNITS}/boot-complete.target.d/10-bootc.conf`]: "systemd/boot-complete.target.d.conf",
  [`${UNITS}/systemd-bless-boot.service.d/10-bootc.conf`]:
    "systemd/systemd-bless-boot.service.d.conf",
  "usr/lib/systemd/system.conf.d/50-bootc.conf": "systemd/bootc-system.conf",
  [`${UNITS}/systemd-journal-flush.service.d/10-bootc.conf`]:
    "systemd/systemd-journal-flush.service.d.conf",
  [`${UNITS}/systemd-remount-fs.service.d/90-bootc.conf`]:
    "systemd/systemd-remount-fs.service.d.conf",
  "usr/lib/systemd/system-preset/80-bootc.preset": "systemd/80-bootc.preset",
  "usr/lib/tmpfiles.d/bootc-ts.conf": "systemd/bootc-tmpfiles.conf",
};

/** Where administrators and images put their own settings; bootc makes them as well. */
const DIRECTORIES = [
  "usr/lib/bootc/kargs.d",
  "usr/lib/bootc/install",
  "usr/lib/bootc/bound-images.d",
  "usr/lib/bootc/health.d",
  "usr/lib/composefs",
];

const EXECUTABLE = "usr/bin/bootc";
/** /init of an initramfs without systemd whose drivers are built in; pid1-init.sh loads modules as well. */
const PID1_PROGRAM = "usr/lib/bootc/pid1-init";
const ELF_MACHINE_OFFSET = 18;

/** Symlink below the root -> what it says. */
const SYMLINKS: Readonly<Record<string, string>> = {
  "usr/lib/bootc/prepare-root": "../../bin/bootc",
  // The name that bootc's own initramfs unit calls.
  "usr/lib/bootc/initramfs-setup": "prepare-root",
  // ostree's own name for its part; /usr/lib/ostree belongs to ostree's packages.
  "usr/lib/bootc/ostree-prepare-root": "prepare-root",
  // Units that come after boot-complete.target (docs/boot-assessment.md).
  "usr/lib/systemd/system-generators/bootc-boot-order-generator": "../../../bin/bootc",
  // Without it a staged update would never become the next one to start, so it is always enabled.
  [`${UNITS}/multi-user.target.wants/bootc-finalize-staged.service`]:
    "../bootc-finalize-staged.service",
  // bootc's generator enables these two on ostree systems.
  [`${UNITS}/multi-user.target.wants/bootc-status-updated.path`]: "../bootc-status-updated.path",
  [`${UNITS}/multi-user.target.wants/bootc-status-updated-onboot.target`]:
    "../bootc-status-updated-onboot.target",
  // Judging a start (docs/boot-assessment.md). Wanted as early as systemd's own unit for it.
  [`${UNITS}/basic.target.wants/bootc-boot-bless.service`]: "../bootc-boot-bless.service",
  [`${UNITS}/basic.target.wants/bootc-boot-review.service`]: "../bootc-boot-review.service",
  [`${UNITS}/sysinit.target.wants/bootc-boot-deadline.timer`]: "../bootc-boot-deadline.timer",
  [`${UNITS}/boot-complete.target.requires/bootc-boot-health.service`]:
    "../bootc-boot-health.service",
  // Without it only root has a status.
  [`${UNITS}/sockets.target.wants/bootc-status.socket`]: "../bootc-status.socket",
};

/** The repository's files that are installed, and this one: what an image made with them depends on. */
export function installedSources(): readonly string[] {
  const scripts = ["scripts/install-files.ts", "scripts/build/pid1-program.ts"];
  return [...Object.values(FILES), ...scripts];
}

/** Installs everything below `root`, with `exe` as the program. Throws when either is missing. */
export function installFiles(root: string, exe: string): void {
  if (!existsSync(root))
    throw new Error(`Cannot install into "${root}": there is no such directory`);
  if (!existsSync(exe)) throw new Error(`Cannot install "${exe}": build it with "npm run build"`);
  for (const path of DIRECTORIES) mkdirSync(join(root, path), { recursive: true });
  for (const [target, source] of Object.entries(FILES)) {
    install(join(SOURCE, source), join(root, target), source.endsWith(".sh") ? 0o755 : 0o644);
  }
  install(exe, join(root, EXECUTABLE), 0o755);
  writeFileSync(join(root, PID1_PROGRAM), emitPid1Program(architectureOf(exe)), { mode: 0o755 });
  for (const [path, target] of Object.entries(SYMLINKS)) link(target, join(root, path));
}

function architectureOf(exe: string): Pid1Architecture {
  const machine = Buffer.from(readHead(exe)).readUInt16LE(ELF_MACHINE_OFFSET);
  if (machine === MACHINE.x64) return "x64";
  if (machine === MACHINE.arm64) return "arm64";
  // Tests install stand-ins that are scripts.
  return process.arch === "arm64" ? "arm64" : "x64";
}

function readHead(path: string): Uint8Array {
  const head = new Uint8Array(ELF_MACHINE_OFFSET + 2);
  const file = openSync(path, "r");
  try {
    readSync(file, head);
  } finally {
    closeSync(file);
  }
  return head;
}

/** Replaces by removing first: the old file may be running, or be a link to another one. */
function install(source: string, target: string, mode: number): void {
  mkdirSync(dirname(target), { recursive: true });
  rmSync(target, { force: true });
  copyFileSync(source, target);
  chmodSync(target, mode);
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSymbolicLink() === true && readlinkSync(path) === target) return;
  rmSync(path, { force: true });
  symlinkSync(target, path);
}

function main(): void {
  const { values } = parseArgs({
    options: {
      root: { type: "string" },
      exe: { type: "string", default: join(SOURCE, "dist/bootc") },
    },
  });
  if (values.root === undefined) {
    throw new Error("Usage: npm run install-files -- --root DIR [--exe FILE]");
  }
  installFiles(resolve(values.root), resolve(values.exe));
  console.log(`Installed into ${resolve(values.root)}: make its initramfs with dracut now`);
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
