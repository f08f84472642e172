import { describe, expect, test } from "vitest";
import { IMPORTING, STAGING_STEPS } from "../deploy/update-step.ts";
import type { PullProgress } from "../image/pull-progress.ts";
import { makeTextReporter, type ProgressReporter } from "./progress.ts";

const MIB = 1024 * 1024;

function progress(bytes: number, layersDone: number, rest: Partial<PullProgress> = {}) {
  const fixed = {
    bytesTotal: 100 * MIB,
    bytesCached: 0,
    layersTotal: 2,
    layersCached: 0,
    layers: [],
  };
  return { ...fixed, bytes, layersDone, ...rest };
}

/** A reporter with a clock that `tick` moves; `text` is what was written since the last look. */
function start(columns: number | null) {
  let [timeMs, text] = [0, ""];
  const write = (more: string) => {
    text += more;
  };
  const reporter: ProgressReporter = makeTextReporter({ write, columns, now: () => timeMs });
  return {
    reporter,
    tick: (ms: number) => {
      timeMs += ms;
    },
    take: () => {
      const taken = text;
      text = "";
      return taken;
    },
  };
}

describe("without a terminal", () => {
  test("says what comes, every tenth, and the end", () => {
    const { reporter, tick, take } = start(null);
    reporter.report(progress(0, 0, { layersCached: 3 }));
    expect(take()).toBe("Fetching 2 layers (100.0 MiB), 3 already here\n");
    reporter.report(progress(9 * MIB, 0));
    expect(take()).toBe("");
    reporter.report(progress(10 * MIB, 0));
    reporter.report(progress(11 * MIB, 0));
    expect(take()).toBe("Fetching: 10.0 MiB of 100.0 MiB, 0 of 2 layers\n");
    tick(2500);
    reporter.report(progress(100 * MIB, 2));
    reporter.finish();
    expect(take()).toBe("Fetched 2 layers (100.0 MiB) in 2.5 s\n");
  });

  test("rate and time left, once they can be told", () => {
    const { reporter, tick, take } = start(null);
    reporter.report(progress(0, 0));
    take();
    tick(2000);
    reporter.report(progress(20 * MIB, 0));
    expect(take()).toBe("Fetching: 20.0 MiB of 100.0 MiB, 10.0 MiB/s, 8 s left, 0 of 2 layers\n");
    tick(1000);
    reporter.report(progress(100 * MIB, 1));
    expect(take()).toBe("Fetching: 100.0 MiB of 100.0 MiB, unpacking, 1 of 2 layers\n");
  });

  test("a slow fetch says that it lives, more and more rarely", () => {
    const { reporter, tick, take } = start(null);
    reporter.report(progress(MIB, 0));
    const lines: string[] = [take()];
    for (let second = 0; second < 24 * 3600; second++) {
      tick(1000);
      reporter.report(progress(MIB, 0));
      reporter.tick();
      const line = take();
      if (line !== "") lines.push(line);
    }
    expect(lines.length).toBe(12);
    expect(lines.at(-1)).toBe("Fetching: 1.0 MiB of 100.0 MiB, waiting, 0 of 2 layers\n");
  });

  test("steps are lines; nothing is said about time", () => {
    const { reporter, tick, take } = start(null);
    reporter.report(progress(100 * MIB, 2));
    take();
    reporter.step(IMPORTING);
    tick(600_000);
    reporter.tick();
    reporter.step(STAGING_STEPS.deploying);
    reporter.step(null);
    reporter.finish();
    expect(take()).toBe("Building the bootable image\nStaging the deployment\n");
  });

  test("nothing to fetch", () => {
    const { reporter, take } = start(null);
    reporter.report(progress(0, 0, { layersTotal: 0, layersCached: 7, bytesTotal: 0 }));
    expect(take()).toBe("All layers (7) are already here\n");
  });

  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1536, "1.5 KiB"],
    [1024 * 1024 - 1, "1.0 MiB"],
    [5 * 1024 ** 3, "5.0 GiB"],
    [5 * 1024 ** 5, "5120.0 TiB"],
  ])("%d bytes are %s", (bytesTotal, text) => {
    const { reporter, take } = start(null);
    reporter.report(progress(0, 0, { bytesTotal, layersTotal: 1 }));
    expect(take()).toBe(`Fetching 1 layer (${text})\n`);
  });
});

describe("on a terminal", () => {
  test("one line, drawn at most ten times a second, replaced by the summary", () => {
    const { reporter, tick, take } = start(80);
    reporter.report(progress(50 * MIB, 1));
    expect(take()).toBe(
      `\r\u001b[K[${"#".repeat(20)}${".".repeat(20)}] 50.0 MiB of 100.0 MiB, 1 of 2 layers`,
    );
    tick(99);
    reporter.report(progress(60 * MIB, 1));
    expect(take()).toBe("");
    tick(1);
    reporter.report(progress(60 * MIB, 1));
    expect(take()).toMatch(/^\r\u001b\[K\[#{24}\.{16}\]/);
    reporter.report(progress(100 * MIB, 2));
    reporter.finish();
    expect(take()).toBe("\r\u001b[KFetched 2 layers (100.0 MiB) in 0.1 s\n");
  });

  test("rate and time left", () => {
    const { reporter, tick, take } = start(100);
    reporter.report(progress(0, 0));
    tick(4000);
    take();
    reporter.report(progress(10 * MIB, 0));
    expect(take()).toContain("] 10.0 MiB of 100.0 MiB, 2.5 MiB/s, 36 s left, 0 of 2 layers");
    // The last seconds count, not the mean of all.
    tick(5000);
    reporter.report(progress(60 * MIB, 0));
    expect(take()).toContain("10.0 MiB/s, 4 s left");
  });

  test("steps are drawn with the time they take, and stay", () => {
    const { reporter, tick, take } = start(80);
    reporter.step(IMPORTING);
    expect(take()).toBe("\r\u001b[KBuilding the bootable image");
    tick(2500);
    reporter.tick();
    expect(take()).toBe("\r\u001b[KBuilding the bootable image (3 s)");
    tick(500);
    reporter.step(STAGING_STEPS.deploying);
    expect(take()).toBe(
      "\r\u001b[KBuilding the bootable image (3 s)\n\r\u001b[KStaging the deployment",
    );
    tick(20);
    reporter.step(null);
    expect(take()).toBe("\r\u001b[KStaging the deployment\n");
    reporter.finish();
    expect(take()).toBe("");
  });

  test("writing to the disk after the last layer is shown only while it lasts", () => {
    const { reporter, tick, take } = start(80);
    reporter.report(progress(100 * MIB, 2));
    expect(take()).toBe("Fetched 2 layers (100.0 MiB) in 0.1 s\n");
    tick(70_000);
    reporter.tick();
    expect(take()).toBe("\r\u001b[KWriting to the disk (1 min 10 s)");
    reporter.step(IMPORTING);
    expect(take()).toBe("\r\u001b[K\r\u001b[KBuilding the bootable image");
  });

  test("a pull that fails leaves the line", () => {
    const { reporter, take } = start(80);
    reporter.report(progress(1, 0));
    take();
    reporter.finish();
    expect(take()).toBe("\n");
    reporter.finish();
    expect(take()).toBe("");
  });

  test.each([10, 30, 45, 60, 200])("never wider than %d columns", (columns) => {
    const { reporter, take } = start(columns);
    reporter.report(progress(50 * MIB, 1));
    expect(take().slice("\r\u001b[K".length).length).toBeLessThan(columns + 1);
  });
});
