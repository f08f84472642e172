// One row of the tamper matrix: a copy of a disk is changed from outside, the machine is switched on, and
// the console tells who noticed: the firmware, systemd-boot, the stub, prepare-root, or nobody.
// Invariants: every row begins with the same saved disk; a row ends with a line that is waited for.

import { rm } from "node:fs/promises";
import { openDisk, type RawDisk } from "./disk-edit.ts";
import { plainLines } from "./events.ts";
import { type Machine, startMachine } from "./machine.ts";
import type { SecureBootMode } from "./secure-boot.ts";
import { runTool } from "./tools-root.ts";

export type Told = {
  /** What prepare-root mounted in the end: the deployment's id as it shortens it, or null. */
  readonly mounted: string | null;
  /** The lines of the console that tell something, in their order, without colours. */
  readonly lines: readonly string[];
  /** All that the console said, without colours. */
  readonly text: string;
  /** Kernel command lines of the kernels that started. */
  readonly cmdlines: readonly string[];
};

export type RowOptions = {
  readonly name: string;
  /** Null: Secure Boot is not there. */
  readonly secureBoot: SecureBootMode | null;
  readonly uefiVars?: string;
  readonly tpm?: { readonly saved?: string };
  readonly extraArgs?: readonly string[];
  /** A copy of the disk is there as a second one, with this change. */
  readonly second?: (disk: RawDisk) => Promise<void>;
  /** The line with which the row ends. */
  readonly until: RegExp;
  readonly limitMs?: number;
  /** For what has to be asked inside; the machine waits for it. */
  readonly inside?: (machine: Machine) => Promise<void>;
};

const telling =
  /prepare-root: |Access [Dd]enied|Security [Vv]iolation|Error (?:loading|starting|opening|reading|registering)|Failed to (?:load|read|start|open|execute)|BdsDxe: |Boot in |login:|Kernel panic|Secure boot enabled|bad (?:shim|signature)|not valid/;

const windowDigits = 16;

/**
 * Whether a kernel command line names the deployment. A busy emulator loses characters of the console now and
 * then, so a piece of the id is enough.
 */
export function namesDeployment(cmdline: string | undefined, id: string): boolean {
  const found = /composefs=\??([0-9a-f]+)/.exec(cmdline ?? "")?.[1] ?? "";
  const starts = Array.from(
    { length: Math.max(found.length - windowDigits + 1, 0) },
    (_, at) => at,
  );
  return starts.some((at) => id.includes(found.slice(at, at + windowDigits)));
}

/** `saved` stays as it is. */
export async function tryTampered(
  saved: RawDisk,
  change: (disk: RawDisk) => Promise<void>,
  options: RowOptions,
): Promise<Told> {
  const name = options.name.replace(/[^a-z0-9]+/gi, "-").toLowerCase();
  const changes = options.second === undefined ? [change] : [change, options.second];
  const paths = changes.map((_, index) => `${saved.path}.${name}.${index}.raw`);
  try {
    for (const [index, path] of paths.entries()) {
      await runTool(["cp", "--sparse=always", saved.path, path]);
      await changes[index]!(await openDisk(path));
    }
    return await observe(name, paths, options);
  } finally {
    for (const path of paths) await rm(path, { force: true });
  }
}

async function observe(name: string, paths: readonly string[], options: RowOptions): Promise<Told> {
  const { secureBoot, uefiVars, tpm, extraArgs, until, limitMs = 240_000, inside } = options;
  await using machine = await startMachine({
    name: `tamper-${name}`,
    boot: { kind: "uefi", ...(secureBoot === null ? {} : { secureBoot }) },
    disks: paths.map((path, index) => ({ id: ["disk", "second"][index]!, path, mode: "write" })),
    agent: inside !== undefined,
    ...(uefiVars === undefined ? {} : { uefiVars }),
    ...(tpm === undefined ? {} : { tpm }),
    ...(extraArgs === undefined ? {} : { extraArgs }),
  });
  try {
    await machine.waitForConsole(until, limitMs);
    await inside?.(machine);
  } catch (error) {
    machine.keep();
    throw error;
  }
  const lines = plainLines(machine.consoleText());
  const cmdlines = lines.flatMap((line) => /Command line: (.*)$/.exec(line)?.[1] ?? []);
  const told = lines.filter((line) => telling.test(line));
  const last = told.findLast((line) => line.includes("prepare-root: "));
  const mounted = /prepare-root: mounted composefs:([0-9a-f]+)/.exec(last ?? "")?.[1] ?? null;
  return { mounted, lines: told, cmdlines, text: lines.join("\n") };
}
