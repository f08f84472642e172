// The fuzzer: every kept input again with all promises checked, a short run with a fixed seed (a minute
// for each target under TEST_ALL), and the parts of the fuzzer themselves.

import { join } from "node:path";
import { transformSync } from "esbuild";
import { describe, expect, test } from "vitest";
import type { LoadedTarget } from "./fuzz/bundle.ts";
import type { CampaignReport } from "./fuzz/campaign.ts";
import { listTargets, readPack } from "./fuzz/corpus.ts";
import { instrumentSource } from "./fuzz/instrument.ts";
import { mutate } from "./fuzz/mutate.ts";
import { runInput } from "./fuzz/run.ts";
import { shrinkInput } from "./fuzz/shrink.ts";
import { checkEqual, type FuzzTarget, PropertyError } from "./fuzz/target.ts";
import { projectDir } from "./support/cache.ts";
import { createRandom } from "./support/random-dump.ts";
import { run } from "./support/run.ts";

const LIMIT = process.env["TEST_ALL"] === undefined ? ["--runs", "300"] : ["--seconds", "60"];

describe.each(listTargets())("%s", (name) => {
  test("kept inputs and new ones break no promise", { timeout: 300_000 }, async () => {
    const kept = readPack(name);
    expect(kept.length).toBeGreaterThan(0);
    const program = [process.execPath, join(projectDir, "scripts/fuzz.ts"), name];
    const output = await run([...program, "--replay", "--json", "--seed", "1", ...LIMIT]);
    const report = JSON.parse(output) as CampaignReport;
    expect(report.findings).toEqual([]);
    expect(report.executions).toBeGreaterThan(kept.length + 10);
    expect(report.accepted).toBeGreaterThan(0);
    // What the corpus is kept for: most of the code behind it.
    expect(report.pointsReached / report.points).toBeGreaterThan(0.6);
  });
});

describe("instrumented code", () => {
  const SOURCE = `
    export function run(n: number, list: readonly number[]): string {
      let text = n > 2 ? "many" : "few";
      if (n === 0) if (list.length > 5) text += "!"; else text += "?";
      for (const x of list) text += x;
      while (n-- > 0) { if (n === 1) continue; text += "w"; }
      const f = (a: number) => ({ a: a || 7 });
      switch (list.length) { case 0: text += "none"; break; case 1: default: text += "some"; }
      try { if (list.length === 3) throw new Error("x"); } catch { text += "caught"; }
      const bytes = new Uint8Array(list.length ?? 9);
      return text + f(n + 1).a + (list.length > 2 && "long") + bytes.length + "ab".repeat(2);
    }`;

  function compile(text: string) {
    const { code } = transformSync(text, { loader: "ts", format: "cjs" });
    const state = { counters: new Uint32Array(100), steps: 0, bytes: 0 };
    const module: { exports: { run?: (n: number, list: readonly number[]) => string } } = {
      exports: {},
    };
    const step = (i: number) => {
      state.counters[i]! += 1;
      state.steps += 1;
    };
    const size = (n: number) => {
      state.bytes += n;
      return n;
    };
    new Function("module", "exports", "$c", "$s", "$n", code)(
      module,
      module.exports,
      state.counters,
      step,
      size,
    );
    return { run: module.exports.run!, state };
  }

  test.each([
    [0, []],
    [3, [1, 2, 3]],
    [0, [1, 2, 3, 4, 5, 6]],
  ])("does the same for %j, %j", (n, list) => {
    const instrumented = compile(instrumentSource("x.ts", SOURCE, []));
    expect(instrumented.run(n, list)).toBe(compile(SOURCE).run(n, list));
  });

  test("counts branches, steps and sizes", () => {
    const points: string[] = [];
    const { run, state } = compile(instrumentSource("x.ts", SOURCE, points));
    run(3, [1, 2, 3]);
    // The function, three turns of each loop, the arrow function.
    expect(state.steps).toBe(1 + 3 + 3 + 1);
    expect(state.bytes).toBe(3 + 2);
    expect(points.every((point) => /^x\.ts:\d+$/.test(point))).toBe(true);
    const before = state.counters.filter((hits) => hits > 0).length;
    run(0, []);
    expect(state.counters.filter((hits) => hits > 0).length).toBeGreaterThan(before);
    expect(state.counters.findLastIndex((hits) => hits > 0)).toBeLessThan(points.length);
  });
});

describe("judging an input", () => {
  const meter = () => ({ steps: 0, maxSteps: 0, bytes: 0, maxBytes: 0, largestBytes: 0 });
  function load(check: (input: Uint8Array, loaded: LoadedTarget) => boolean): LoadedTarget {
    const target: FuzzTarget = {
      focus: /x/,
      seeds: () => [],
      maxBytes: 100,
      check: (input) => check(input, loaded),
    };
    const counters = new Uint32Array(2);
    const loaded: LoadedTarget = {
      name: "x",
      target,
      points: ["a:1", "b:2"],
      counters,
      meter: meter(),
    };
    return loaded;
  }
  const named = (name: string) => Object.assign(new Error("at 17"), { name });

  test("documented errors refuse, everything else is a finding", async () => {
    const judge = async (error: Error) =>
      (
        await runInput(
          load(() => {
            throw error;
          }),
          new Uint8Array(1),
        )
      ).finding;
    expect(await judge(named("FormatError"))).toBeNull();
    expect(await judge(named("TypeError"))).toMatchObject({ kind: "error" });
    expect(await judge(new PropertyError("Order: 1, 2"))).toMatchObject({
      kind: "property",
      signature: "Order",
    });
  });

  test("steps and memory beyond the allowance count even when the code catches the error", async () => {
    const spend = (what: "steps" | "bytes", amount: number) =>
      load((_, { meter, counters }) => {
        meter[what] += amount;
        counters[1] = 9;
        return true;
      });
    const small = await runInput(spend("steps", 1000), new Uint8Array(10));
    expect(small).toMatchObject({ accepted: true, finding: null });
    for (const what of ["steps", "bytes"] as const) {
      const { finding } = await runInput(spend(what, 1e9), new Uint8Array(10));
      expect(finding).toMatchObject({ kind: "cost", signature: `cost ${what} b:2` });
    }
  });

  test("an input with a finding is made smaller and plainer", async () => {
    const loaded = load((input) => {
      checkEqual(input.includes(0x42), false, "Has a B");
      return true;
    });
    const input = new Uint8Array(100).fill(7);
    input[61] = 0x42;
    expect(await shrinkInput(loaded, input, "Has a B")).toEqual(Uint8Array.of(0x42));
  });
});

test("the same random numbers make the same changes, within the length allowed", () => {
  const target: FuzzTarget = {
    focus: /x/,
    seeds: () => [],
    maxBytes: 64,
    words: ["word"],
    check: () => true,
  };
  const input = new Uint8Array(60).map((_, i) => i);
  const make = (seed: number) => {
    const random = createRandom(seed);
    return Array.from({ length: 500 }, () => mutate(target, input, random, () => input));
  };
  expect(make(1)).toEqual(make(1));
  expect(make(1)).not.toEqual(make(2));
  expect(make(1).every(({ length }) => length <= 64)).toBe(true);
  expect(input).toEqual(new Uint8Array(60).map((_, i) => i));
  expect(new Set(make(1).map(String)).size).toBeGreaterThan(300);
});
