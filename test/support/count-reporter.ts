// A vitest reporter that writes how many tests passed, failed and were skipped, and which failed, to a file.
//
// scripts/test.ts adds up the files of all projects for its last lines. Counted as failed, too: a file
// or group that could not be set up (its tests never ran) and an error outside of any test.

import { writeFileSync } from "node:fs";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** One line for each failure: where it is and what it said. */
  readonly failures: readonly string[];
}

/** The variable that names the file to write. */
export const COUNTS_FILE_VARIABLE = "TEST_COUNTS_FILE";

function countTests(
  modules: readonly TestModule[],
  unhandledErrors: readonly SerializedError[],
): TestCounts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const failures: string[] = [];
  const fail = (where: string, errors: readonly SerializedError[]) => {
    counts.failed++;
    failures.push(`${where}: ${errors[0]?.message.split("\n", 1)[0] ?? "no message"}`);
  };
  for (const error of unhandledErrors) fail("outside of any test", [error]);
  for (const module of modules) {
    const file = module.relativeModuleId;
    if (module.errors().length > 0) fail(file, module.errors());
    for (const suite of module.children.allSuites()) {
      if (suite.errors().length > 0) fail(`${file} > ${suite.fullName}`, suite.errors());
    }
    for (const test of module.children.allTests()) {
      const { state, errors } = test.result();
      if (state === "failed") fail(`${file} > ${test.fullName}`, errors);
      else counts[state === "pending" ? "skipped" : state]++;
    }
  }
  return { ...counts, failures };
}

// vitest loads a reporter by its file's default export.
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const path = process.env[COUNTS_FILE_VARIABLE];
    if (path !== undefined)
      writeFileSync(path, JSON.stringify(countTests(modules, unhandledErrors)));
  }
}
