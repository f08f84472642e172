// Builds dist/bootc: bundles, a hardened copy of Bun, and `bun build --compile` to join them.
//
// Nothing is done when dist/bootc already comes from these inputs. The result appears by one rename,
// so whoever runs dist/bootc meanwhile sees a whole old or a whole new one.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { bundleAll, hashBundles, ROOT, WORKERS } from "./build/bundle.ts";
import { blankEnvironmentNames, protectFromStrip } from "./build/harden.ts";

const DIST = join(ROOT, "dist");
const CACHE = join(ROOT, ".cache/build");
export const BUN = join(ROOT, "node_modules/bun/bin/bun.exe");

export const EXECUTABLE = join(DIST, "bootc");

const COMPILE_FLAGS = [
  "--compile",
  "--target=bun",
  "--reject-unresolved",
  "--bytecode",
  "--format=esm",
  "--splitting",
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-tsconfig",
  "--no-compile-autoload-package-json",
] as const;

/** Builds dist/bootc and the symbolic links to it; returns false when nothing was to do. */
export async function buildExecutable(): Promise<boolean> {
  const bundles = await bundleAll();
  const keyFile = join(DIST, "meta/key");
  const key = createHash("sha256")
    .update(`${baseKey()}\n${hashBundles(bundles)}\n${COMPILE_FLAGS.join(" ")}`)
    .update(readFileSync(import.meta.filename))
    .digest("hex");
  if (existsSync(EXECUTABLE) && existsSync(keyFile) && readFileSync(keyFile, "utf8") === key) {
    return false;
  }
  mkdirSync(join(DIST, "meta"), { recursive: true });
  const scratch = mkdtempSync(join(DIST, ".partial-"));
  try {
    for (const { name, code } of bundles) writeFileSync(join(scratch, `${name}.js`), code);
    const workers = WORKERS.map((name) => `${name}.js`);
    compileHardened(join(scratch, "main.js"), join(scratch, "bootc"), workers);
    for (const { name, metafile } of bundles) {
      writeFileSync(join(DIST, `meta/${name}.json`), JSON.stringify(metafile, null, 1));
    }
    renameSync(join(scratch, "bootc"), EXECUTABLE);
    for (const name of ["prepare-root", "ostree-prepare-root"]) {
      symlinkSync("bootc", join(scratch, name));
      renameSync(join(scratch, name), join(DIST, name));
    }
    writeFileSync(keyFile, key);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return true;
}

/**
 * Compiles the program `entry`, with what it imports, to the executable `output`. `workers` are files
 * beside it that it starts as threads.
 */
export function compileHardened(
  entry: string,
  output: string,
  workers: readonly string[] = [],
): void {
  const base = hardenedBase(baseKey());
  const args = ["build", ...COMPILE_FLAGS, `--compile-executable-path=${base}`];
  const result = spawnSync(BUN, [...args, `--outfile=${output}`, basename(entry), ...workers], {
    cwd: dirname(entry), // the paths of the modules, relative to this, end up in the executable
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin" },
  });
  if (result.status !== 0) {
    throw new Error(`Cannot compile "${entry}":\n${result.stdout}${result.stderr}`);
  }
  const executable = readFileSync(output);
  protectFromStrip(executable);
  writeFileSync(output, executable);
}

/** Changes when the Bun that is built in, or what is done to it, changes. */
function baseKey(): string {
  const { size, mtimeMs } = statSync(BUN);
  const hash = createHash("sha256").update(`${size} ${mtimeMs}\n`);
  for (const name of ["elf.ts", "harden.ts", "jsc-prefix.ts"]) {
    hash.update(readFileSync(join(import.meta.dirname, "build", name)));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Path of the copy of Bun without environment names, made once. */
function hardenedBase(key: string): string {
  const path = join(CACHE, `bun-${key}`);
  if (existsSync(path)) return path;
  const executable = readFileSync(BUN);
  blankEnvironmentNames(executable);
  mkdirSync(CACHE, { recursive: true });
  for (const old of readdirSync(CACHE)) {
    if (old.startsWith("bun-")) rmSync(join(CACHE, old));
  }
  const partial = `${path}.partial-${process.pid}`;
  writeFileSync(partial, executable, { mode: 0o755 });
  renameSync(partial, path);
  return path;
}

/** One line for each file whose size matters. */
export function describeSizes(): string {
  const line = (label: string, bytes: number) =>
    `  ${label.padEnd(28)} ${(bytes / 1e6).toFixed(2).padStart(8)} MB`;
  const lines = [
    line("dist/bootc", statSync(EXECUTABLE).size),
    line("of it Bun", statSync(BUN).size),
  ];
  for (const name of ["initrd", "tools", "updater", ...WORKERS]) {
    const meta = JSON.parse(readFileSync(join(DIST, `meta/${name}.json`), "utf8"));
    const [output] = Object.values<{ bytes: number }>(meta.outputs);
    lines.push(line(`bundle ${name}`, output?.bytes ?? 0));
  }
  return lines.join("\n");
}

if (import.meta.main) {
  const built = await buildExecutable();
  console.log(`${built ? "Built" : "Up to date:"} dist/bootc\n${describeSizes()}`);
}
