// `npm run bench:pull [-- [--rounds=N] [WORD…]]`: pulling an image from a registry on this machine, ours against
// podman, skopeo with umoci, and skopeo with ostree, as Markdown on stdout. Words choose images by their label.
//
// Runs take turns, each on a file system of its own, so that none finds what another has left. Only ratios are
// printed, and beside them the floor: the slowest of unpacking, hashing and writing the layers with standard
// programs. Peers do not sync what they write; ours does, and makes the image that boots besides.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "../../test/support/cache.ts";
import { startRegistry } from "../../test/support/registry-server.ts";
import { buildExecutable } from "../build.ts";
import { formatTable } from "./measure.ts";
import { makeContenders, type PullContender } from "./pull-contenders.ts";
import { measureFloor } from "./pull-floor.ts";
import { type BenchImage, ensurePullImages } from "./pull-images.ts";

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
}

interface Row {
  readonly label: string;
  readonly samples: ReadonlyMap<string, readonly Sample[]>;
  readonly floorMs: number | null;
}

const DEFAULT_ROUNDS = 3;
const DISK_BYTES = 12 * 2 ** 30;
const note = (line: string) => console.error(`. ${line}`);
const words = process.argv.slice(2);
const rounds = Number(
  words.find((word) => word.startsWith("--rounds="))?.slice(9) ?? DEFAULT_ROUNDS,
);
const wanted = words.filter((word) => !word.startsWith("--"));

// Mounts of this run are nobody else's business; one that somebody's namespace has copied could not be undone.
if (process.env["BENCH_PRIVATE_MOUNTS"] === undefined) {
  const argv = ["unshare", "--mount", "--propagation", "private", process.execPath];
  const env = { ...process.env, BENCH_PRIVATE_MOUNTS: "1" };
  const stdio = { stdin: "inherit", stdout: "inherit", stderr: "inherit", env } as const;
  process.exit(Bun.spawnSync([...argv, import.meta.filename, ...words], stdio).exitCode);
}

await buildExecutable();
const found = await ensurePullImages(note);
if (found === null) throw new Error("There is no Debian image yet: npm run demo makes it");
const scratch = mkdtempSync(join(cacheDir, "bench-"));
const disk = join(scratch, "disk");
mkdirSync(disk);
try {
  await using registry = await startRegistry({ directory: found.registryDirectory, name: "bench" });
  const host = `127.0.0.1:${registry.port}`;
  const contenders = await makeContenders(host, scratch);
  const chosen = found.images.filter(({ label }) => wanted.every((word) => label.includes(word)));
  const rows: Row[] = [];
  for (const image of chosen) rows.push(...(await measureImage(image, host, contenders)));
  console.log(describe(rows, contenders));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** A first pull, and an update in which one layer is new. */
async function measureImage(
  image: BenchImage,
  host: string,
  contenders: readonly PullContender[],
): Promise<Row[]> {
  const first = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  const update = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  const floors: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    for (const { name, argv } of contenders) {
      using _ = mountFreshDisk();
      const run = (tag: number) =>
        runMeasured(argv({ image: `${host}/${image.repository}:${tag}`, disk, tag }));
      const samples = [run(1), run(2)] as const;
      note(`${image.label}, ${name}: ${samples.map(formatSample).join("; ")}`);
      if (round === 0) continue; // warms the page cache
      first.get(name)!.push(samples[0]);
      update.get(name)!.push(samples[1]);
    }
    using _ = mountFreshDisk();
    const floor = await measureFloor(`docker://${host}/${image.repository}:1`, scratch, disk);
    note(`${image.label}, floor: ${JSON.stringify(floor)}`);
    if (round > 0) floors.push(Math.max(...Object.values(floor)));
  }
  return [
    { label: `${image.label}: first pull`, samples: first, floorMs: median(floors) },
    { label: `${image.label}: update`, samples: update, floorMs: null },
  ];
}

/** An empty ext4 file system on `disk`: one that was just emptied is slow for a minute. */
function mountFreshDisk(): Disposable {
  const image = join(scratch, `disk-${Bun.randomUUIDv7()}.img`);
  runOrThrow(["truncate", "-s", String(DISK_BYTES), image]);
  runOrThrow(["mkfs.ext4", "-q", "-b", "4096", "-E", "lazy_itable_init=0", image]);
  runOrThrow(["mount", "-o", "loop", image, disk]);
  return {
    [Symbol.dispose]() {
      runOrThrow(["umount", "-R", disk]);
      rmSync(image);
    },
  };
}

/** GNU time asks the kernel, about the whole tree of processes; a peak is that of the largest of them. */
function runMeasured(argv: readonly string[]): Sample {
  runOrThrow(["sync", "--file-system", disk]);
  const output = join(scratch, "time");
  const started = performance.now();
  runOrThrow(["/usr/bin/time", "-o", output, "-f", "%U %S %M", "--", ...argv]);
  const wallMs = performance.now() - started;
  const [user, system, peakKib] = readFileSync(output, "utf8").trim().split(" ").map(Number);
  return { wallMs, cpuMs: (user! + system!) * 1000, peakBytes: peakKib! * 1024 };
}

function runOrThrow(argv: readonly string[]): void {
  const { exitCode, stderr, stdout } = Bun.spawnSync([...argv], { stdout: "pipe", stderr: "pipe" });
  if (exitCode !== 0) {
    throw new Error(`${argv.join(" ")} ended with ${exitCode}: ${stderr}${stdout}`);
  }
}

function describe(rows: readonly Row[], contenders: readonly PullContender[]): string {
  const [ours, ...peers] = contenders;
  const table = (title: string, pick: (sample: Sample) => number) =>
    formatTable(
      [title, ...peers.map(({ name }) => name), "fastest"],
      rows.map(({ label, samples }) => {
        const mine = median(samples.get(ours!.name)!.map(pick));
        const ratios = peers.map(({ name }) => mine / median(samples.get(name)!.map(pick)));
        return [label, ...ratios.map(formatRatio), formatRatio(Math.max(...ratios))];
      }),
    );
  const own = rows.map(({ label, samples, floorMs }) => {
    const mine = samples.get(ours!.name)!;
    const wallMs = median(mine.map((sample) => sample.wallMs));
    return [
      label,
      `${(wallMs / 1000).toFixed(1)} s`,
      `${(median(mine.map((sample) => sample.cpuMs)) / 1000).toFixed(1)} s`,
      `${(Math.max(...mine.map((sample) => sample.peakBytes)) / 1e6).toFixed(0)} MB`,
      floorMs === null ? "" : formatRatio(wallMs / floorMs),
    ];
  });
  return [
    `Ours to each of them, medians of ${rounds} rounds; below 1 ours needs less.`,
    table("wall time", ({ wallMs }) => wallMs),
    table("CPU time", ({ cpuMs }) => cpuMs),
    formatTable(["ours", "wall time", "CPU", "peak memory", "wall time to the floor"], own),
  ].join("\n\n");
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function formatRatio(ratio: number): string {
  return ratio.toFixed(2);
}

function formatSample({ wallMs, cpuMs, peakBytes }: Sample): string {
  const seconds = [wallMs, cpuMs].map((ms) => (ms / 1000).toFixed(2));
  return `${seconds[0]} s, ${seconds[1]} s CPU, ${(peakBytes / 1e6).toFixed(0)} MB`;
}
