// Runs the rows of test/support/trust-rows.ts with prepare-root as a program:
//
//   bun trust-cases.js verity DEVICE DIRECTORY PROGRAM…   on an ext4 with fs-verity, mounted and damaged here
//   bun trust-cases.js plain  -      DIRECTORY PROGRAM…   without, and without the rows whose point it is
//   bun trust-cases.js esp    DISK   DIRECTORY PROGRAM…   a disk of two partitions, ESP and root, of which the ESP is
//                                                         found by prepare-root itself
//
// Prints one line of JSON: name -> what came of it. Nothing stays mounted.

import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { MNT, O } from "../../shared/sys/constants.ts";
import { Fd } from "../../shared/sys/fd.ts";
import { openat, writeAll } from "../../shared/sys/file.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { enableVerity } from "../../shared/sys/verity.ts";
import { openTrustFolder, readTrustAnchors } from "../../shared/trust/anchors.ts";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { raiseFloor, TPM_PATH } from "../../shared/trust/floor.ts";
import { judgeContent, makeTrustPlace, sign, type TrustPlace, trustKey } from "./trust-place.ts";
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

function protect(disk: string, unprotected: ReadonlySet<string>): void {
  const objects = join(disk, "composefs/objects");
  for (const name of readdirSync(objects, { recursive: true }).map(String)) {
    if (!name.includes("/") || unprotected.has(`composefs/objects/${name}`)) continue;
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
    .filter((path) => path === directory || path.startsWith(`${directory}/`));
}

function releaseMounts(directory: string): void {
  for (const path of mountsBelow(directory).toReversed()) umount2(path, MNT.DETACH);
}

export interface EspResult {
  readonly code: number | null;
  readonly output: string;
  /** vfat file systems that are mounted anywhere afterwards. */
  readonly mounted: number;
}

/** Starts from the second partition, with the floor of the first as it is, then with a lower one that is in use. */
function runEspCases(disk: string, base: string, program: readonly string[]) {
  const [esp, root] = [1, 2].map((number) => `${realpathSync(disk)}${number}`) as [string, string];
  mount(root, base, "ext4", 0, null);
  protect(base, new Set());
  const [id = ""] = readdirSync(join(base, "state/deploy")).filter((name) =>
    existsSync(join(base, "state/deploy", name, `${name}.statement`)),
  );
  const [trust, target, mounted] = ["trust", "target", "esp"].map(
    (name) => `/run/case-${name}`,
  ) as [string, string, string];
  for (const path of [join(trust, "keys.d"), target, mounted]) mkdirSync(path, { recursive: true });
  writeFileSync(join(trust, "keys.d/vendor.pub"), trustKey("vendor").pub);
  const [command = "", ...words] = program;
  const start = (tpm = "/dev/no-tpm"): EspResult => {
    const places = ["--sysroot", base, "--target", target, "--run", "/run", "--config", ""];
    const trusted = ["--trust", trust, "--tpm", tpm, "--cmdline", `composefs=${id}`];
    const argv = [...words, ...places, ...trusted];
    const { status, stderr, stdout } = spawnSync(command, argv, { encoding: "utf8" });
    releaseMounts(target);
    const table = readFileSync("/proc/self/mountinfo", "utf8");
    const count = table.split("\n").filter((line) => line.includes(" - vfat ")).length;
    return { code: status, output: `${stdout}${stderr}`.trim(), mounted: count };
  };
  const below = start();
  mount(esp, mounted, "vfat", 0, null);
  writeFileSync(join(mounted, ESP_FLOOR_FILE), sign(id, [trustKey("vendor")], { version: 42 }));
  const inUse = start();
  umount2(mounted, 0);
  const again = start();
  writeFileSync(esp, new Uint8Array(1 << 16));
  const erased = start();
  return { below, inUse, again, erased, ...runTpmCases(start, id, trust) };
}

/** With the kernel's own device: no floor yet, then one at and one above the image. */
function runTpmCases(start: (tpm: string) => EspResult, id: string, trust: string) {
  writeFileSync(join(trust, "trust.conf"), "[image]\ncounter=tpm\n");
  using directory = openTrustFolder(trust);
  const places = { tpmPath: TPM_PATH, espPath: null, anchors: readTrustAnchors(directory) };
  const raise = (version: number) => {
    const document = Buffer.from(sign(id, [trustKey("vendor")], { version }));
    return raiseFloor(places, { version, document });
  };
  const unset = start(TPM_PATH);
  const raised = raise(42);
  const atFloor = start(TPM_PATH);
  raise(43);
  return { unset, raised, atFloor, belowTpm: start(TPM_PATH) };
}

function main([kind = "", device = "", base = "", ...program]: readonly string[]): string {
  if (kind === "esp") return JSON.stringify(runEspCases(device, base, program));
  const isPlain = kind === "plain";
  const rows = TRUST_ROWS.filter((row) => !isPlain || !wantsVerity(row));
  if (!isPlain) mount(device, base, "ext4", 0, null);
  const prepared = rows.map((row, index) => prepareRow(row, base, index, isPlain));
  if (!isPlain) {
    for (const { place } of prepared) protect(place.disk, place.unprotected);
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
