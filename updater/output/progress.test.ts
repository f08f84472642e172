import { describe, expect, test } from "vitest";
import type { PullProgress } from "../image/pull.ts";
import { makeTextReporter, type PullReporter } from "./progress.ts";

const MIB = 1024 * 1024;

function progress(bytes: number, layersDone: number, rest: Partial<PullProgress> = {}) {
  const fixed = { bytesTotal: 100 * MIB, bytesCached: 0, layersTotal: 2, layersCached: 0 };
  return { ...fixed, bytes, layersDone, ...rest };
}

/** A reporter with a clock that `tick` moves; `text` is what was written since the last look. */
function start(columns: number | null) {
  let [timeMs, text] = [0, ""];
  const write = (more: string) => {
    text += more;
  };
  const reporter: PullReporter = makeTextReporter({ write, columns, now: () => timeMs });
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
