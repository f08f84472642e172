// A vitest reporter that writes how many tests passed, failed and were skipped to a file.
//
// scripts/test.ts adds up the files of all projects for its last line. Counted as failed, too: a file
// or group that could not be set up (its tests never ran) and an error outside of any test.

import { writeFileSync } from "node:fs";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The variable that names the file to write. */
export const COUNTS_FILE_VARIABLE = "TEST_COUNTS_FILE";

function countTests(
  modules: readonly TestModule[],
  unhandledErrors: readonly SerializedError[],
): TestCounts {
  const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
  for (const module of modules) {
    for (const group of [module, ...module.children.allSuites()]) {
      if (group.errors().length > 0) counts.failed++;
    }
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      counts[state === "pending" ? "skipped" : state]++;
    }
  }
  return counts;
}

// vitest loads a reporter by its file's default export.
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const path = process.env[COUNTS_FILE_VARIABLE];
    if (path !== undefined)
      writeFileSync(path, JSON.stringify(countTests(modules, unhandledErrors)));
  }
}
