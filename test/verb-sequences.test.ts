// Every sequence of verbs up to a length, with every interruption, on machines without a disk (issue 5):
// something boots, nothing that runs, is staged or pinned is at risk, and the next update always works.

import { appendFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ExplorationOptions, exploreVerbs } from "./sim/verb-exploration.ts";

const ALL = process.env["TEST_ALL"] !== undefined;
/** "b" has a kernel of its own, "e" that of "a": a soft reboot leads from one to the other. */
const SIZES: readonly ExplorationOptions[] = ALL
  ? [
      { loader: "systemd", images: ["a", "b"], verbs: 6, crashes: 2 },
      { loader: "systemd", images: ["a", "e"], verbs: 6, crashes: 2 },
      { loader: "systemd", images: ["a", "e", "b"], verbs: 5, crashes: 2 },
      { loader: "grub", images: ["a", "b"], verbs: 6, crashes: 2 },
      { loader: "grub", images: ["a", "e"], verbs: 5, crashes: 2 },
    ]
  : [
      { loader: "systemd", images: ["a", "b"], verbs: 4, crashes: 2 },
      { loader: "systemd", images: ["a", "e"], verbs: 4, crashes: 1 },
      { loader: "grub", images: ["a", "e"], verbs: 3, crashes: 2 },
    ];

test.each(SIZES)(
  "$loader: $verbs verbs, $crashes interruptions, images $images",
  (options) => {
    const started = performance.now();
    const { states, runs, crashes, refusals, faults } = exploreVerbs(options);
    const report = process.env["CRASH_REPORT"];
    if (report !== undefined) {
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const lines = [
        `${options.loader} ${options.images} ${options.verbs} verbs ${options.crashes} crashes: ${states} states, ${runs} runs, ${crashes} interruptions, ${seconds} s`,
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
