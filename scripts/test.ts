// `npm test`: sets up what the tests need, then runs everything; the last lines are the failures and the sum.
//
// `--all` (npm run test:all) also runs the long matrices: they look at the variable TEST_ALL.
// Needs root and Debian, since it mounts, starts VMs and installs packages; `npm run check` does not.

import { spawnSync } from "node:child_process";
import type { TestCounts } from "../test/support/count-reporter.ts";
import { ensureToolsRoot } from "../test/vm/tools-root.ts";
import { buildExecutable, describeSizes } from "./build.ts";
import { addCounts, checkSources, countFailure, formatCounts, runProject } from "./check/steps.ts";

/** Programs that tests run on this machine itself, and their packages. */
const HOST_PROGRAMS = {
  mount: "mount",
  "mkfs.ext4": "e2fsprogs",
  setfattr: "attr",
  strip: "binutils",
  zstd: "zstd",
} as const;

const BUDGET_MINUTES = 45;

const started = performance.now();
if (process.argv.includes("--all")) process.env["TEST_ALL"] = "1";

const counts: TestCounts[] = [];
if (process.getuid?.() === 0) {
  counts.push(...(await step("Set-up", setUp)));
  counts.push(...(await step("Format, lint, types", checkSources)));
  for (const project of ["unit", "root", "vm"] as const) {
    counts.push(...(await step(`Project ${project}`, async () => [await runProject(project)])));
  }
} else {
  counts.push(countFailure('cannot test as this user: it takes root (without: "npm run check")'));
}

const minutes = (performance.now() - started) / 60_000;
const budget = process.env["TEST_ALL"] === undefined ? ` of ${BUDGET_MINUTES}` : "";
console.log(`Took ${minutes.toFixed(1)}${budget} minutes`);
const sum = addCounts(counts);
process.exitCode = sum.failed === 0 ? 0 : 1;
console.log(formatCounts(sum));

/** Runs `work` under a heading; an error counts as a failure and the other steps still run. */
async function step(
  name: string,
  work: () => Promise<readonly TestCounts[]>,
): Promise<readonly TestCounts[]> {
  console.log(`\n== ${name}`);
  try {
    return await work();
  } catch (error) {
    console.log(`${name}: FAILED\n${error instanceof Error ? error.stack : error}`);
    return [countFailure(`${name}: ${error instanceof Error ? error.message : error}`)];
  }
}

async function setUp(): Promise<readonly TestCounts[]> {
  installHostPackages();
  await ensureToolsRoot((line) => console.log(`  ${line}`));
  await buildExecutable();
  console.log(describeSizes());
  return [];
}

function installHostPackages(): void {
  const missing = Object.entries(HOST_PROGRAMS)
    .filter(
      ([program]) =>
        Bun.which(program, { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` }) === null,
    )
    .map(([, name]) => name);
  if (missing.length === 0) return;
  console.log(`Installing ${missing.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const args of [["update"], ["install", "-y", "--no-install-recommends", ...missing]]) {
    const { status, stderr } = spawnSync("apt-get", ["-q", ...args], { env, encoding: "utf8" });
    if (status !== 0) throw new Error(`apt-get ${args.join(" ")} failed: ${stderr}`);
  }
}
