// Every sequence of verbs up to a length, with every interruption, on machines without a disk (issue 5):
// something boots, nothing that runs, is staged or pinned is at risk, and the next update always works.

import { appendFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ExplorationOptions, exploreVerbs } from "./sim/verb-exploration.ts";

const ALL = process.env["TEST_ALL"] !== undefined;
const SIZES: readonly ExplorationOptions[] = ALL
  ? [
      { images: ["a", "b"], verbs: 6, crashes: 2 },
      { images: ["a", "b", "c"], verbs: 5, crashes: 2 },
    ]
  : [{ images: ["a", "b"], verbs: 4, crashes: 2 }];

test.each(SIZES)(
  "$verbs verbs, $crashes interruptions, images $images",
  (options) => {
    const started = performance.now();
    const { states, runs, crashes, refusals, faults } = exploreVerbs(options);
    const report = process.env["CRASH_REPORT"];
    if (report !== undefined) {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const lines = [
        `${options.images} ${options.verbs} verbs ${options.crashes} crashes: ${states} states, ${runs} runs, ${crashes} interruptions, ${seconds} s`,
        ...[...refusals].map(([text, count]) => `  ${count} x ${text}`),
        ...faults,
      ];
      appendFileSync(report, `${lines.join("\n")}\n`);
    }
    expect(faults).toEqual([]);
    expect(states).toBeGreaterThan(100);
  },
  3_600_000,
);
