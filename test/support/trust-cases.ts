// Runs the rows of test/support/trust-rows.ts with prepare-root as a program:
//
//   bun trust-cases.js verity DEVICE DIRECTORY PROGRAM…   on an ext4 with fs-verity, mounted and damaged here
//   bun trust-cases.js plain  -      DIRECTORY PROGRAM…   without, and without the rows whose point it is
//
// Prints one line of JSON: name -> what came of it. Nothing stays mounted.

import { spawnSync } from "node:child_process";
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MNT, O } from "../../shared/sys/constants.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { openat, writeAll } from "../../shared/sys/file.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { enableVerity } from "../../shared/sys/verity.ts";
import { judgeContent, makeTrustPlace, type TrustPlace } from "./trust-place.ts";
import { TRUST_ROWS, type TrustRow } from "./trust-rows.ts";

export interface TrustResult {
  readonly code: number | null;
  readonly output: string;
  /** Of the files that the row names. */
  readonly reads: Readonly<Record<string, string>>;
  /** trust-next.json. */
  readonly record: Readonly<Record<string, unknown>> | null;
  /** Below the scratch directory, when all was over. */
  readonly mountsLeft: number;
}

interface PreparedRow {
  readonly row: TrustRow;
  readonly directory: string;
  readonly place: TrustPlace;
}

function prepareRow(row: TrustRow, base: string, index: number, isPlain: boolean): PreparedRow {
  const directory = join(base, String(index));
  const conf = [
    ...(row.conf ?? []),
    ...(isPlain && !wantsVerity(row) ? ["allow-missing-verity=true"] : []),
  ];
  const place = makeTrustPlace(directory, row.name, { conf, damage: row.damage });
  row.change?.(place);
  for (const name of ["run", "target"]) mkdirSync(join(directory, name));
  return { row, directory, place };
}

const wantsVerity = ({ verity }: TrustRow) => verity === true;

function protect({ place }: PreparedRow): void {
  const objects = join(place.disk, "composefs/objects");
  for (const name of readdirSync(objects, { recursive: true }).map(String)) {
    if (!name.includes("/") || place.unprotected.has(`composefs/objects/${name}`)) continue;
    using fd = openat(null, join(objects, name), O.RDONLY);
    enableVerity(fd, "sha512");
  }
}

/** Changes the first byte of each mark, which is there once. */
function damage(device: string, marks: readonly string[]): void {
  const bytes = readFileSync(device);
  const file = openSync(device, "rs+");
  for (const mark of marks) {
    const offset = bytes.indexOf(mark);
    if (offset < 0 || bytes.indexOf(mark, offset + 1) >= 0) throw new Error(`"${mark}": not once`);
    writeSync(file, "X", offset);
  }
}

function runRow(
  { directory, place, row }: PreparedRow,
  program: readonly string[],
  isPlain: boolean,
) {
  const target = join(directory, "target");
  const demanded =
    isPlain && !wantsVerity(row) ? `composefs=?${place.id}` : `composefs=${place.id}`;
  const cmdline = row.cmdline?.(place) ?? demanded;
  const [command = "", ...argv] = [
    ...program,
    ...["--sysroot", place.disk, "--target", target, "--run", join(directory, "run")],
    ...["--config", "", "--trust", place.trust, "--esp", place.esp, "--tpm", "/dev/no-tpm"],
    ...["--cmdline", cmdline],
  ];
  // An ostree deployment is mounted on the sysroot, and takes neither --target.
  const words = /(^| )composefs=/.test(cmdline)
    ? argv
    : argv.filter((_, i) => !isTargetAt(argv, i));
  const { signal, status, stderr, stdout } = spawnSync(command, words, {
    encoding: "utf8",
    timeout: 60_000,
  });
  const reads = Object.keys(row.reads ?? {}).map((path) => [
    path,
    judgeContent(join(target, path), (file) => readFileSync(file, "utf8")),
  ]);
  releaseMounts(directory);
  return {
    code: status,
    output: `${stdout}${stderr}`.trim() + (signal === null ? "" : ` ${signal}`),
    reads: Object.fromEntries(reads),
    record: readRecord(join(directory, "run/composefs/trust-next.json")),
    mountsLeft: mountsBelow(directory).length,
  };
}

const isTargetAt = (argv: readonly string[], index: number) =>
  argv[index] === "--target" || argv[index - 1] === "--target";

function readRecord(path: string): TrustResult["record"] {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

function mountsBelow(directory: string): readonly string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${directory}/`));
}

function releaseMounts(directory: string): void {
  for (const path of mountsBelow(directory).toReversed()) umount2(path, MNT.DETACH);
}

function main([kind = "", device = "", base = "", ...program]: readonly string[]): string {
  const isPlain = kind === "plain";
  const rows = TRUST_ROWS.filter((row) => !isPlain || !wantsVerity(row));
  if (!isPlain) mount(device, base, "ext4", 0, null);
  const prepared = rows.map((row, index) => prepareRow(row, base, index, isPlain));
  if (!isPlain) {
    for (const row of prepared) protect(row);
    umount2(base, 0);
    damage(device, [...new Set(rows.flatMap((row) => row.damage ?? []))]);
    writeFileSync("/proc/sys/vm/drop_caches", "3");
    mount(device, base, "ext4", 0, null);
  }
  const results = prepared.map((row) => [row.row.name, runRow(row, program, isPlain)]);
  return JSON.stringify(Object.fromEntries(results));
}

// Only the types are imported elsewhere.
if (import.meta.main) writeAll(new Fd(1), Buffer.from(`${main(process.argv.slice(2))}\n`));
