// What the composefs benchmarks read, made once and kept below .cache: a Debian system of some 30,000
// files, dumps of it and of synthetic trees, and 2 GB of files.
//
// Everything synthetic comes from a seeded generator: the same bytes on every machine.

import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../../test/support/cache.ts";
import { run } from "../../test/support/run.ts";
import { debootstrap } from "../../test/vm/debootstrap.ts";
import { ensureToolsRoot } from "../../test/vm/tools-root.ts";
import { cTool } from "./composefs-programs.ts";
import { formatSyntheticDump } from "./synthetic-dump.ts";

export interface DumpInput {
  readonly label: string;
  readonly path: string;
  /** Made by the C program from the dump; what composefs-info looks into. */
  readonly image: string;
  readonly entries: number;
}

export interface ComposefsInputs {
  readonly toolsRoot: string;
  /** A directory that runs may fill; emptied by nobody but them. */
  readonly scratch: string;
  /** A real system's files. */
  readonly tree: { readonly path: string; readonly entries: number };
  readonly dumps: {
    readonly real: DumpInput;
    readonly medium: DumpInput;
    readonly large: DumpInput;
  };
  /** 2 GB in all: one large, many middle and many small ones. */
  readonly files: readonly string[];
}

const SUITE = "trixie";
/** A server with a compiler: enough packages for some 30,000 files. */
const PACKAGES = [
  ["linux-image-amd64", "systemd", "udev", "dbus", "network-manager", "openssh-server", "podman"],
  ["build-essential", "git", "vim", "python3-venv", "perl", "ncurses-term", "tzdata", "man-db"],
  ["adwaita-icon-theme"],
].flat();
/** One that only threads together read quickly, many that fill a task, and as many as a command line takes. */
const FILES = [
  { kind: "large", count: 1, sizeBytes: 2 ** 30 },
  { kind: "middle", count: 64, sizeBytes: 2 ** 23 },
  { kind: "small", count: 8192, sizeBytes: 2 ** 16 },
] as const;
const PIECE_BYTES = 2 ** 20;

export async function ensureComposefsInputs(
  scratch: string,
  note: (line: string) => void,
): Promise<ComposefsInputs> {
  const toolsRoot = await ensureToolsRoot(note);
  const tree = await ensureTree(note);
  const dumps = {
    real: await ensureDump(toolsRoot, "real", cacheKey(1, tree), async (path) => {
      const image = `${path}.erofs`;
      await run([...cTool(toolsRoot, "mkcomposefs", [tree, image]).argv]);
      const { argv } = cTool(toolsRoot, "composefs-info", ["dump", image]);
      await run(["sh", "-c", '"$@" > "$0"; rm "$0.erofs"', path, ...argv]);
    }),
    medium: await ensureSyntheticDump(toolsRoot, "200 k", 200_000),
    large: await ensureSyntheticDump(toolsRoot, "1 M", 1_000_000),
  };
  mkdirSync(scratch, { recursive: true });
  const { entries } = dumps.real;
  return { toolsRoot, scratch, tree: { path: tree, entries }, dumps, files: await ensureFiles() };
}

async function ensureTree(note: (line: string) => void): Promise<string> {
  const key = cacheKey(1, SUITE, PACKAGES);
  const dir = await cachedDir(join(cacheDir, `bench-tree-${key}`), async (path) => {
    note("making a Debian tree to measure with");
    const root = join(path, "root");
    await debootstrap({ root, variant: "apt", suites: [SUITE], packages: PACKAGES });
  });
  return join(dir, "root");
}

async function ensureSyntheticDump(toolsRoot: string, label: string, entries: number) {
  return ensureDump(toolsRoot, label, cacheKey(2, entries), async (path) => {
    const fd = openSync(path, "w");
    for (const text of formatSyntheticDump(entries)) writeSync(fd, text);
    closeSync(fd);
  });
}

async function ensureDump(
  toolsRoot: string,
  label: string,
  key: string,
  write: (path: string) => Promise<void>,
): Promise<DumpInput> {
  const kind = label.replace(" ", "");
  const dir = await cachedDir(join(cacheDir, `bench-dump-${kind}-${key}`), async (made) => {
    const path = join(made, "dump");
    await write(path);
    const words = ["--from-file", path, join(made, "image")];
    await run([...cTool(toolsRoot, "mkcomposefs", words).argv]);
  });
  const path = join(dir, "dump");
  const entries = readFileSync(path).reduce((count, byte) => count + (byte === 0x0a ? 1 : 0), 0);
  return { label, path, image: join(dir, "image"), entries };
}

async function ensureFiles(): Promise<readonly string[]> {
  const key = cacheKey(2, FILES);
  const names = FILES.flatMap(({ kind, count }) =>
    Array.from({ length: count }, (_, index) => `${kind}${index}`),
  );
  const dir = await cachedDir(join(cacheDir, `bench-files-${key}`), async (path) => {
    const content = new Uint32Array(PIECE_BYTES / 4);
    let state = 1;
    for (const { kind, count, sizeBytes } of FILES) {
      for (let index = 0; index < count; index++) {
        const fd = openSync(join(path, `${kind}${index}`), "w");
        for (let done = 0; done < sizeBytes; done += PIECE_BYTES) {
          const piece = content.subarray(0, Math.min(PIECE_BYTES, sizeBytes - done) / 4);
          for (let i = 0; i < piece.length; i++) {
            state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
            piece[i] = state;
          }
          writeSync(fd, piece);
        }
        closeSync(fd);
      }
    }
  });
  return names.map((name) => join(dir, name));
}
