// Boot counting by GRUB: its script counts `boot_counter` in grubenv down as long as `boot_success` is not 1,
// and starts the menu's second entry when it is used up (grub/bootc.cfg; greenboot's script means the same by
// these names). Needs a script that counts and a grubenv that GRUB itself can write.
//
// The block is written in place and flushed: GRUB finds it by its disk blocks and replays no journal, so a
// file that was replaced may not be there for it after a power cut (boot-counting-and-esp.md 2).

import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import { describeError, FormatError, StateError } from "../../shared/error.ts";
import {
  changeEnvironment,
  ENVIRONMENT_BYTES,
  type GrubEnvironment,
  parseEnvironment,
} from "../../shared/format/grub/environment.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { fsync, openat, openRegularFile, pwriteAll, readAll } from "../../shared/sys/file.ts";
import { fstat, fstatfs } from "../../shared/sys/stat.ts";
import type { BootDirectory } from "./boot-layout.ts";
import type { System } from "./system.ts";

/** How often a new deployment is tried. */
export const GRUB_TRIES = 3;
const SCRIPT_LIMIT_BYTES = 1 << 20;
/** Where distributions keep GRUB's files below /boot: Fedora's and SUSE's name first, then Debian's. */
export const GRUB_DIRECTORIES = ["grub2", "grub"] as const;
/** statfs(2): file systems whose files GRUB can write to. */
const WRITABLE_TYPES: ReadonlySet<number> = new Set([0xef53, 0x4d44]);

type GrubCounting =
  | { readonly kind: "grubenv" }
  /** `reason` is a clause; null when nothing on this machine asks for counting. */
  | { readonly kind: "none"; readonly reason: string | null };

/** Whether GRUB counts on this machine; `bootPath` has its directory. */
export function readGrubCounting(system: System, bootPath: string): GrubCounting {
  const directory = GRUB_DIRECTORIES.map((name) => join(bootPath, name)).find(isDirectory);
  if (directory === undefined) return { kind: "none", reason: null };
  try {
    if (!hasCountingScript(directory)) return { kind: "none", reason: null };
    return checkEnvironmentFile(system, join(directory, "grubenv"));
  } catch (error) {
    return { kind: "none", reason: describeError(error) };
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false; // nothing, or a loop of links: GRUB finds nothing there, either
  }
}

function hasCountingScript(directory: string): boolean {
  return readdirSync(directory).some((name) => {
    if (!name.endsWith(".cfg")) return false;
    using file = openRegularFile(null, join(directory, name), O.NOFOLLOW);
    if (file === null || fstat(file).sizeBytes > SCRIPT_LIMIT_BYTES) return false;
    return Buffer.from(readAll(file, SCRIPT_LIMIT_BYTES)).includes("boot_counter");
  });
}

function checkEnvironmentFile(system: System, path: string): GrubCounting {
  using file = openBlock(path);
  const { devMajor, devMinor } = fstat(file);
  if (!WRITABLE_TYPES.has(Number(fstatfs(file).type))) {
    return { kind: "none", reason: `GRUB cannot write to the file system of "${path}"` };
  }
  const device = join(system.sysfs, "dev/block", `${devMajor}:${devMinor}`);
  if (existsSync(device) && isStacked(realpathSync(device))) {
    return {
      kind: "none",
      reason: `GRUB cannot write to "${path}" on LVM, RAID or an encrypted disk`,
    };
  }
  const block = readAll(file, ENVIRONMENT_BYTES);
  // What is counted already goes on, whatever others have put in meanwhile.
  if (!parseEnvironment(block).has("boot_counter") && !hasRoom(block)) {
    const reason = `"${path}" has no room for the counter ("grub-editenv ${path} list" shows what is in it)`;
    return { kind: "none", reason };
  }
  return { kind: "grubenv" };
}

/** For what the script itself writes as well; asked for before an update is staged, for at shutdown nobody could mend it. */
function hasRoom(block: Uint8Array): boolean {
  try {
    changeEnvironment(block, {
      boot_counter: `${GRUB_TRIES}`,
      boot_success: "0",
      boot_fallback: "1",
    });
    return true;
  } catch (error) {
    if (isFull(error)) return false;
    throw error;
  }
}

function isFull(error: unknown): boolean {
  return error instanceof FormatError && error.code === "limit";
}

function isStacked(device: string): boolean {
  const slaves = join(device, "slaves");
  return existsSync(slaves) && readdirSync(slaves).length > 0;
}

export interface GrubTrial {
  /** Starts left; null when nothing is counted. */
  readonly left: number | null;
  /** The last start was good. */
  readonly success: boolean;
  /** The tries were used up, so the second entry was started. */
  readonly fallback: boolean;
  /** Id of the entry that is started then; null: the second one. */
  readonly fallbackId: string | null;
}

/** StateError when there is no environment block, FormatError when it is none. */
export function readGrubTrial(boot: BootDirectory): GrubTrial {
  using file = openBlock(environmentPath(boot));
  return interpretTrial(parseEnvironment(readAll(file, ENVIRONMENT_BYTES)));
}

/** greenboot's script says -1 where ours says boot_fallback=1. */
export function interpretTrial(variables: GrubEnvironment): GrubTrial {
  const counter = /^-?[0-9]{1,9}$/.exec(variables.get("boot_counter") ?? "")?.[0];
  const left = counter === undefined ? null : Number(counter);
  const success = variables.get("boot_success") === "1";
  return {
    left: left === null ? null : Math.max(left, 0),
    success,
    fallback: !success && (left === -1 || variables.get("boot_fallback") === "1"),
    fallbackId: variables.get("bootc_fallback") ?? null,
  };
}

/**
 * Before the new deployment becomes the first one: counting starts with the next boot. `fallback` is the id of
 * the entry to start when no try is left; by its id, because the menu's order changes before this block does.
 */
export function startGrubTrial(
  boot: BootDirectory,
  fallback: string | null,
  tries = GRUB_TRIES,
): void {
  const counter = { boot_counter: `${tries}`, boot_success: "0", boot_fallback: null };
  changeWithFallback(boot, counter, fallback);
}

/** While something is on trial: another entry to start when no try is left. Null: the second one. */
export function setGrubFallback(boot: BootDirectory, id: string | null): void {
  changeWithFallback(boot, {}, id);
}

/** A block that has no room for the name goes without: then the second entry is meant, as it nearly always is. */
function changeWithFallback(
  boot: BootDirectory,
  changes: Readonly<Record<string, string | null>>,
  id: string | null,
): void {
  const name = nameFallback(boot, id);
  try {
    changeVariables(boot, { ...changes, bootc_fallback: name });
  } catch (error) {
    if (name === null || !isFull(error)) throw error;
    changeVariables(boot, { ...changes, bootc_fallback: null });
  }
}

/** Entries of user.cfg have no ids. */
function nameFallback({ layout }: BootDirectory, id: string | null): string | null {
  return layout.userConfig === null ? id : null;
}

/** One try less for what is counted, as if it had been started. */
export function spendGrubTry(boot: BootDirectory): void {
  const { left, success } = readGrubTrial(boot);
  if (left !== null && left > 0 && !success) changeVariables(boot, { boot_counter: `${left - 1}` });
}

/** The menu's first entry is a good one, and is what boots. */
export function blessGrubTrial(boot: BootDirectory): void {
  changeVariables(boot, {
    boot_success: "1",
    boot_counter: null,
    boot_fallback: null,
    bootc_fallback: null,
  });
}

function changeVariables(
  boot: BootDirectory,
  changes: Readonly<Record<string, string | null>>,
): void {
  const path = environmentPath(boot);
  openBlock(path).close();
  using file = openat(null, path, O.RDWR | O.NOFOLLOW);
  const before = readAll(file, ENVIRONMENT_BYTES);
  const after = changeEnvironment(before, changes);
  if (Buffer.compare(before, after) === 0) return;
  pwriteAll(file, after, 0);
  fsync(file);
}

/** FormatError for what is no regular file: a FIFO would wait. */
function openBlock(path: string): Fd {
  const file = openRegularFile(null, path, O.NOFOLLOW);
  if (file !== null) return file;
  throw new FormatError("bad-value", `"${path}" is not a regular file`, { path });
}

function environmentPath({ path }: BootDirectory): string {
  const found = GRUB_DIRECTORIES.map((name) => join(path, name, "grubenv")).find((each) =>
    existsSync(each),
  );
  if (found !== undefined) return found;
  throw new StateError(
    "missing",
    `There is no "grubenv" in "${path}": create it with grub-editenv`,
    {
      path,
    },
  );
}
