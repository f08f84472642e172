// The steps that `npm run check` and `npm test` are made of: lint, types and vitest's projects.
//
// Each gives counts; a step that fails without counting anything counts as one failure, so nothing
// that goes wrong can be missing from the sum.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COUNTS_FILE_VARIABLE, type TestCounts } from "../../test/support/count-reporter.ts";
import { ROOT } from "../build/bundle.ts";

const BIN = join(ROOT, "node_modules/.bin");
const PASSED: TestCounts = { passed: 1, failed: 0, skipped: 0, failures: [] };

export type Project = "unit" | "root" | "vm";

export function addCounts(all: readonly TestCounts[]): TestCounts {
  const sum = (key: "passed" | "failed" | "skipped") =>
    all.reduce((total, counts) => total + counts[key], 0);
  return {
    passed: sum("passed"),
    failed: sum("failed"),
    skipped: sum("skipped"),
    failures: all.flatMap((counts) => counts.failures),
  };
}

/** The failures, a line each, then the sum: whoever sees only the end of a run sees why it failed. */
export function formatCounts(counts: TestCounts): string {
  const sum = `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
  return [...counts.failures.map((failure) => `FAILED ${failure}`), sum].join("\n");
}

/** One failure that no test counted. */
export function countFailure(failure: string): TestCounts {
  return { passed: 0, failed: 1, skipped: 0, failures: [failure] };
}

/** Biome (format and lint) and the TypeScript compiler, at the same time; output only on failure. */
export async function checkSources(): Promise<readonly TestCounts[]> {
  return Promise.all([
    checkQuietly("format and lint", ["biome", "ci", "--colors=off", "--error-on-warnings", "."]),
    checkQuietly("types", ["tsc", "--noEmit", "-p", "."]),
  ]);
}

async function checkQuietly(label: string, argv: readonly string[]): Promise<TestCounts> {
  const started = performance.now();
  const { status, output } = await collect(argv);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (status === 0) {
    console.log(`${label}: ok (${seconds} s)`);
    return PASSED;
  }
  console.log(`${label}: FAILED (${argv.join(" ")})\n${output}`);
  return countFailure(label);
}

function collect(argv: readonly string[]): Promise<{ status: number | null; output: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number | null;
    output: string;
  }>();
  const child = spawn(join(BIN, argv[0]!), argv.slice(1), {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  child.stderr.on("data", (part: Buffer) => parts.push(part));
  child.once("error", reject);
  child.once("close", (status) => resolve({ status, output: Buffer.concat(parts).toString() }));
  return promise;
}

/**
 * Runs a vitest project inside Bun; its output goes straight to ours. A run without a single test,
 * or one that ends badly without a failed test, counts as a failure.
 */
export async function runProject(project: Project): Promise<TestCounts> {
  const scratch = mkdtempSync(join(tmpdir(), "test-counts-"));
  const countsFile = join(scratch, "counts.json");
  try {
    const argv = ["--bun", join(BIN, "vitest"), "run", "--project", project];
    const reporters = ["default", join(ROOT, "test/support/count-reporter.ts")];
    const child = spawn(
      join(BIN, "bun"),
      [...argv, ...reporters.map((reporter) => `--reporter=${reporter}`)],
      {
        cwd: ROOT,
        stdio: ["ignore", "inherit", "inherit"],
        env: { ...process.env, [COUNTS_FILE_VARIABLE]: countsFile },
      },
    );
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    child.once("error", reject);
    child.once("close", resolve);
    const status = await promise;
    return judge(project, status, readCounts(countsFile));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function readCounts(path: string): TestCounts {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return { passed: 0, failed: 0, skipped: 0, failures: [] };
  }
}

function judge(project: Project, status: number | null, counts: TestCounts): TestCounts {
  if (counts.passed + counts.failed === 0) {
    return addCounts([counts, countFailure(`project ${project}: no test was run`)]);
  }
  if (status !== 0 && counts.failed === 0) {
    const failure = `project ${project}: vitest ended with ${status} and no failed test`;
    return addCounts([counts, countFailure(failure)]);
  }
  console.log(`project ${project}: ${formatCounts(counts)}`);
  return counts;
}
