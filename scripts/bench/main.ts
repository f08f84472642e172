// `npm run bench`: the figures of docs/performance.md that need no VM, as Markdown on stdout.
//
// Figures are from this machine as it is: close other programs, and compare with the lines beside
// them (a C program, the real mkcomposefs) rather than with another machine. `--zstd` also
// compresses the executable as the initramfs does, which takes a minute.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { constants as zlib, zstdCompressSync } from "node:zlib";
import { VerityHasher } from "../../shared/format/verity/digest.ts";
import { makeComposefsDisk, SKELETON } from "../../test/support/composefs-disk.ts";
import { runInMountNamespace } from "../../test/support/mount-namespace.ts";
import { ROOT } from "../build/bundle.ts";
import { BUN, buildExecutable, EXECUTABLE } from "../build.ts";
import { type Command, formatMb, formatMs, formatTable, measure, summarize } from "./measure.ts";

const CACHE = join(ROOT, ".cache");
const RUNS = 30;

await buildExecutable();
mkdirSync(CACHE, { recursive: true });
const scratch = mkdtempSync(join(CACHE, "bench-"));
try {
  console.log(`## Size\n\n${benchSize()}\n`);
  console.log(`## Start\n\n${benchStart()}\n`);
  console.log(`## prepare-root, from exec to mounted root\n\n${benchPrepareRoot()}\n`);
  console.log(`## From an OCI directory to a boot image\n\n${benchImport()}\n`);
  console.log(`## fs-verity digest of 256 MB\n\n${benchVerity()}`);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function benchSize(): string {
  const executable = readFileSync(EXECUTABLE);
  const rows = [
    ["dist/bootc", formatMb(executable.length)],
    ["of it Bun", formatMb(statSync(BUN).size)],
  ];
  if (process.argv.includes("--zstd")) {
    const params = { [zlib.ZSTD_c_compressionLevel]: 19 };
    rows.push(["dist/bootc, zstd -19", formatMb(zstdCompressSync(executable, { params }).length)]);
  }
  return formatTable(["", "size"], rows);
}

function benchStart(): string {
  const commands: readonly (readonly [string, Command])[] = [
    ["`/bin/true`, for comparison", { argv: ["/bin/true"] }],
    ["`prepare-root --help`", { argv: [EXECUTABLE, "--help"], argv0: "prepare-root" }],
    ["`bootc --version`", { argv: [EXECUTABLE, "--version"] }],
    ["`bootc status`", { argv: [EXECUTABLE, "status"] }],
  ];
  const rows = commands.map(([label, command]) => {
    const { firstMs, medianMs, p95Ms, cpuMs } = summarize(measure(command, RUNS));
    return [label, ...[firstMs, medianMs, p95Ms, cpuMs].map(formatMs)];
  });
  return formatTable(["", "first", "median", "95 %", "CPU"], rows);
}

/** As prepare-root itself tells it, in the line that it writes to the journal at every boot. */
function benchPrepareRoot(): string {
  if (process.getuid?.() !== 0) return "Not measured: needs root.";
  const disk = join(scratch, "disk");
  for (const name of ["disk", "m", "run"]) mkdirSync(join(scratch, name));
  const { id } = makeComposefsDisk(disk, { ...SKELETON, "sbin/init": "#!/bin/sh\n" });
  const lines = Array.from({ length: RUNS }, () => {
    const steps = runInMountNamespace(
      'mount --bind "$DISK" "$M"\n' +
        'step prepare "$PROGRAM" --sysroot "$M" --config "" --run "$RUN" --cmdline "$CMDLINE"',
      {
        PROGRAM: join(ROOT, "dist/prepare-root"),
        DISK: disk,
        M: join(scratch, "m"),
        RUN: join(scratch, "run"),
        CMDLINE: `composefs=?${id}`,
      },
    );
    const { code, output } = steps.get("prepare")!;
    if (code !== 0) throw new Error(`prepare-root failed: ${output}`);
    return output;
  });
  const found = lines.map((line) => /in (\d+) ms \((\d+) ms ours\), (\d+) MB/.exec(line)!);
  const median = (index: number) =>
    found.map((match) => Number(match[index])).sort((a, b) => a - b)[RUNS >> 1]!;
  return formatTable(
    ["", "median"],
    [
      ["from exec to mounted root", `${median(1)} ms (clock of 10 ms)`],
      ["of it our code", `${median(2)} ms`],
      ["peak memory", `${median(3)} MB`],
    ],
  );
}

/** The demo's Debian image, when it has been built: three imports into empty repositories. */
function benchImport(): string {
  const images = join(CACHE, "os");
  const names = existsSync(images) ? readdirSync(images) : [];
  const name = names.find((entry) => /^oci-v1-[0-9a-f]{16}$/.test(entry));
  if (name === undefined) return "Not measured: no image yet (npm run demo).";
  const layout = join(images, name, "os.oci");
  const runs = [1, 2, 3].map((number) => {
    const repo = join(scratch, `repo${number}`);
    const program = join(import.meta.dirname, "import-image.ts");
    const { stdout, stderr, exitCode } = Bun.spawnSync([BUN, program, layout, repo]);
    rmSync(repo, { recursive: true, force: true });
    if (exitCode !== 0) throw new Error(`import-image.ts failed: ${stderr}`);
    return stdout.toString().trim().split(" ").map(Number);
  });
  const median = (index: number) => runs.map((run) => run[index]!).sort((a, b) => a - b)[1]!;
  const rows = [
    ["pull, import, boot image (median of 3)", formatMs(median(0))],
    ["peak memory", formatMb(median(1))],
  ];
  return formatTable(["", ""], rows);
}

function benchVerity(): string {
  const block = new Uint8Array(1 << 20).map((_, index) => index & 0xff);
  const rows = (["sha256", "sha512"] as const).map((algorithm) => {
    const started = performance.now();
    const hasher = new VerityHasher(algorithm);
    for (let count = 0; count < 256; count++) hasher.update(block);
    hasher.digestHex();
    const seconds = (performance.now() - started) / 1000;
    return [algorithm, `${((256 * block.length) / 1e6 / seconds).toFixed(0)} MB/s`];
  });
  return formatTable(["", ""], rows);
}
